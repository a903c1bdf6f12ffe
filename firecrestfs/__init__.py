"""firecrestfs mounts HPC clusters through FirecREST.

Layers, each importing only what stands below it:

    cli ─ daemon ─ mount        command line · process, signals, drain · the composition root
    jobcommands                 jobs through the files of a running mount
    controls ─ running          its control files · a running mount
    kept                        what a state directory keeps while nothing is mounted
    config                      flags, environment, profiles
    fuseops, door, binding      FUSE's calls onto the mount table · errnos · the only `import fuse`
    opened, statfields          what is open, by number · the fields that FUSE is told
    threadstate                 what Python keeps of libfuse's threads between two calls
    vfs                         what the mount looks like: tree, overlay, handles, jobs, control
    transfer                    which way bytes travel, and when: engine, tars, write-back
    cache · api                 strangers to each other: local copies and beliefs · FirecREST
    model, errors, paths        values, `OSError`s and the text of paths, for all
    faultpoints                 steps at which tests let the process die
    demo ─ emulator             a FirecREST of our own; it imports nothing of the rest

Where to start reading: `fuseops.FuseOperations.getattr`, then `vfs.namespace`, `vfs.remote`,
`vfs.tree`. For changes: `vfs.entry` and `vfs.places` (where an entry is shown, and where the
cluster has it), `vfs.order` (what waits for what), `vfs.names`, `vfs.stores`, `transfer.writeback`,
`vfs.landing`; for hard links `vfs.secondnames` and `vfs.hardlinks`, for times of stored files
`transfer.touching`; for bytes `transfer.engine`, of odd names `transfer.carrying`, of large files
`vfs.fetching` and `transfer.large_stores`, where one request carries them compressed
`transfer.compressed` and `transfer.compressed_reads`, of what is appended to them
`transfer.appends`, of what nobody wants any more `transfer.given_up`; for jobs
`vfs.jobs.submissions`.

Locks are taken in the order tree (`vfs.places`) → file (`cache.cached_file`) → leaf (caches,
queues, tables). No lock is held across the network; the token refresh is the one exception.
"""

__version__ = "0.1.0"
