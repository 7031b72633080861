"""The process that feeds a job's Pipe channels. Standard library only: `staging.feeds` copies this package beside the
record that it reads and runs it there, so that neither a new version of Sagewright nor its end touches what is fed.

The record, made by `staging.pipes`, is the process's working folder:

    lock               held while the process lives; its pid
    error              why it cannot go on, once it cannot
    N/channel.json     one channel: name, records, gunzip, seed, shard, shards
    N/entries          one unit per line, in order: [part, …]; a part is a text, or [object's number, S3 URI]
    N/objects/M        the bytes of object M, pinned: they stay what they are, whatever becomes of the object
    N/progress         the epoch, and whether a reader may be seeing it (`progress`)
"""
