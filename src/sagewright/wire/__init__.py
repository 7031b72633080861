"""AWS wire protocols, driven by botocore's service models. Pure: no I/O, no store, no service knowledge."""
