"""HTTP/2 (RFC 9113) and gRPC framing for servers, with no socket, clock or thread: bytes in, events and bytes out.

    bytes -> frames            frame_reader.py      preface, sizes, header blocks made whole
          -> requests          header_blocks.py, request_reader.py, requests.py
          -> a Handler's calls connection.py        streams.py: their states, as a table
    answers -> bytes           outflow.py           the peer's windows, and what waits for them
    what a peer may cost       limits.py, patience.py
    calls and messages         grpc.py              upon it all; grpc_words.py, grpc_messages.py
    words of the RFC           words.py

Who reads the socket gives what it read to `GrpcConnection.receive`, handles the events it returns, and writes what
`to_send` returns: all frames of one read are parsed in one go, and all answers of one turn leave in one write.
docs/decisions/0007-our-own-http2.md says why this is ours.
"""
