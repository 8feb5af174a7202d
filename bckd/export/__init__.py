"""A detector as ONNX, as a torch.export program, or in the official layout; compared."""
