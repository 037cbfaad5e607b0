"""The only place that touches BPF: loaders, maps, attachments, pins and feature probes."""
