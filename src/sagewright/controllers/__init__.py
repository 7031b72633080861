"""Only a controller starts, stops or removes anything, and only a controller writes `status`."""
