"""The runner: one small process per workload that starts it, outlives Sagewright, and writes down how it ended.

A program of its own. It is copied into the backend's folder and run with `-I -S`, so it imports the standard library
only, and little of that (start latency and memory are paid once per workload). It talks with the backend through files
of the record folder (see `backends.process.records`), never through memory, pipes or exit codes.

    publish ──▶ prepare ──▶ start ──▶ supervise ──▶ exit.json
    (rename)    environment  fork,     wait, stop,
                program copy namespaces kill
                   └──────────┴─ cannot run ──▶ exit.json
"""
