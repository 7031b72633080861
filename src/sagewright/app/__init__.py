"""The composition root: builds every part by constructor and starts the processes. Nothing imports it but the CLI."""
