"""Does the program hold on a real server what it holds on the emulated one?

These tests need a FirecREST server, an account on one of its systems, and a directory there in
which they may make a directory of their own. They remove it at their end, also when they fail, and
submit a few jobs of seconds. Nothing of the server's may be known beforehand but what these say:

    FIRECREST_URL               the server
    FIRECREST_CLIENT_ID, FIRECREST_CLIENT_SECRET, AUTH_TOKEN_URL
                                client credentials; or FIRECREST_TOKEN_FILE or
                                FIRECREST_TOKEN_COMMAND, FIRECREST_TOKEN or FIRECREST_PROFILE
    FIRECREST_SYSTEM            the system
    FIRECREST_LIVE_DIR          an absolute path on it
    FIRECREST_LIVE_ACCOUNT      the account that jobs are charged to, where the scheduler wants one
    FIRECREST_LIVE=1            without it nothing here is collected

    FIRECREST_LIVE=1 python -m pytest tests/live

The emulated server (`firecrestfs serve --json`, with `--api v1` too) passes them as well.
"""
