"""Sagewright: SageMaker code and containers, unchanged, on machines of your own."""

__version__ = "0.1.0"
