"""The machine under everything: errors, files, values, devices, processes, downloads, messages."""
