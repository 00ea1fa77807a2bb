"""The same facts for programs: JSON, CSV, Parquet, Atom, pictures, citations."""
