"""The HTTP front door: one port for every AWS protocol, for browsers, and for clients that use it as a proxy."""
