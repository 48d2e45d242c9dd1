"""HTTP/2 (RFC 9113) and gRPC framing for servers, with no socket, clock or thread: bytes in, events and bytes out.

    bytes --> Connection --> handler: requests, data, trailers, resets        connection.py, frame by frame
              |  HPACK, cached while the peer's table stands still            header_blocks.py
              |  what a request may be                                        requests.py
              |  streams: a table of states, and windows                      streams.py
              |  what a peer may cost                                         patience.py, limits.py
              +--> GrpcConnection: calls and messages                         grpc.py, grpc_calls.py, grpc_words.py

Who reads the socket gives what it read to `GrpcConnection.receive`, handles the events it returns, and writes what
`to_send` returns: all frames of one read are parsed in one go, and all answers of one turn leave in one write.
docs/decisions/0007-our-own-http2.md says why this is ours.
"""
