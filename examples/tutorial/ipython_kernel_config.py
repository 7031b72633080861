# What the notebook prints goes to the log of the job too, and the kernel's own remarks do not.
c = get_config()  # noqa: F821
c.IPKernelApp.quiet = False
c.IPKernelApp.log_level = "ERROR"
