"""The `sagewright` command. Talks to a running server over HTTP, like any client; `up` starts one."""
