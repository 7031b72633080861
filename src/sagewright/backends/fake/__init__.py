"""A scriptable backend for tests: everything happens in memory, by a clock that the test moves."""
