"""Data sets and the benchmarks made of them. No pixels are decoded here; labels are read only in
`truth`."""
