"""Parts of `benchmarks/endpoint.py`: servers, load, and what is measured of them."""
