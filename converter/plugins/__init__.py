"""What can be added: exporters, simplifiers, providers, executors, reports; their loader."""
