"""What is spoken at the port of etcd's API beside gRPC: its JSON, and its pages (/version, /health, /metrics).

    exchange.py   a request and its answer, whatever carries them; the words they are made of
    http1.py      HTTP/1.1 (httptools), one connection
    http2.py      the same over HTTP/2, on the streams that are not gRPC's
    desk.py       whose path is it; CORS, hosts; the pages
    calls.py      JSON calls, as calls of the gRPC desk
    protojson.py, go_json.py    JSON as etcd has it

No socket here, as in http2/: bytes in, bytes out.
"""
