"""From clips to features: decoding, the log-mel front end, feature extractors."""
