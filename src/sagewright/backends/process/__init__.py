"""Folder images as processes of this machine, in namespaces of their own, with no container engine."""
