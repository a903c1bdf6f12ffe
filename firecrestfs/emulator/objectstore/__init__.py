"""An object store that answers like S3: buckets of objects, reached by signed URLs and forms.

Both API versions stage large files here; nothing in it knows of either. In Python, with
`store = site.store` and keys that start with their bucket ("demo/6ba7b810-…/big.dat"):

    store.presign("GET", key)           a URL for one method, valid `expires` seconds; further query
                                        parameters by keyword: `uploadId=…, partNumber=3`
    store.presign_v2("PUT", key)        the same with a signature of version 2
    store.form(key)                     where and with which fields a browser would POST the file
    store.create_upload(key)            the id of a new multipart upload, for `presign`
    store.exists(key), store.find(key)  whether it is there; size, ETag and times of it
    store.open(key)                     a binary file to read; raises FileNotFoundError
    store.put(key, chunks)              store what an iterable of bytes yields
    store.delete(key)                   remove it, if it is there

Over HTTP: GET (Range, If-Match, If-None-Match, If-Range), HEAD, PUT, DELETE, multipart uploads and
POST forms. Every signature is verified; only what is signed is allowed, for that method, host and
time. Bodies go to and from files in pieces, so an object may be larger than the memory.

    store       objects, multipart uploads, the interface above
    shelf       their files on disk
    signatures  versions 4 and 2, for URLs and forms
    web         the routes, named "store/get", "store/part" and so on for faults and the log
    transport   one HTTP request and answer; forms are read by `postform`
    errors      what goes wrong, as XML
    elsewhere   the same interface on another server that speaks S3
"""

from __future__ import annotations

from .elsewhere import store_at
from .errors import StoreError
from .shelf import Blob
from .store import ObjectStore, PostForm
from .web import PREFIX, StoreWeb

__all__ = ["PREFIX", "Blob", "ObjectStore", "PostForm", "StoreError", "StoreWeb", "store_at"]
