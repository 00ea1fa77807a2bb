"""The three services and the chassis they are built on. Run from a checkout or an image; never
installed."""
