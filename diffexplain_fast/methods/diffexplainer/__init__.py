"""DiffExplainer (arXiv 2404.02618): a soft prompt whose pictures maximise a target."""
