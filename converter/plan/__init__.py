"""From a specification to jobs: which models, which exporters at which opset, cache keys."""
