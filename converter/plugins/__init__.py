"""What can be added: exporters, simplifiers, variants, providers, executors, reports, layouts."""
