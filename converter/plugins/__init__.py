"""What can be added: exporters, simplifiers, providers, executors, reports; and their loader."""
