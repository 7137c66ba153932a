"""Official benchmark folders, in the format of AVCA-GZSL and TCAF-GZSL, read and converted."""
