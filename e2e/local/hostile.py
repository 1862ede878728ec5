#!/usr/bin/env python3
"""Clients that are slow, broken or hostile cost bounded memory and get a clear Status."""

import json
import resource
import socket
import time

from rig import CONFIGMAPS, PROJECTS, Judge, Server, project

IDLE = 10000
MEMORY_KB = 512 * 1024  # far above what the bounds add up to, far below what an unbounded server takes


def answer_of(sock):
    data = b""
    try:
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
            head, _, body = data.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length and len(body) >= int(length[0].split(b":")[1]):
                break
    except OSError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
    try:
        return status, json.loads(body)
    except ValueError:
        return status, {}


def send_raw(server, data, pieces=1):
    sock = server.connect()
    try:
        for i in range(pieces):
            sock.sendall(data)
    except OSError:
        pass
    result = answer_of(sock)
    sock.close()
    return result


def is_status(answer, code, reason=None):
    status, body = answer
    return status == code and body.get("kind") == "Status" and body.get("code") == code and \
        body.get("message") and (reason is None or body.get("reason") == reason)


def bodies(judge, server):
    deep = "[" * 10000 + "]" * 10000
    text = json.dumps(project("deep"))[:-1] + ', "x": ' + deep + "}"
    answer = server.call("POST", PROJECTS, text)
    judge.check("nesting 10,000 deep is refused", is_status(answer, 400, "BadRequest"), answer)
    answer = server.call("POST", PROJECTS, b'{"apiVersion":"flops.dev/v1alpha1","kind":"\xff\xfe"}')
    judge.check("invalid UTF-8 is refused", is_status(answer, 400, "BadRequest"), answer)
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12))
    answer = server.call("POST", PROJECTS, laughs, {"Content-Type": "application/yaml"})
    judge.check("a billion laughs are refused", answer[0] in (400, 413), answer)
    many = json.dumps({"metadata": {"name": "keys"}, "data": {f"k{i}": "" for i in range(200000)}})
    answer = server.call("POST", CONFIGMAPS, many)
    judge.check("200,000 keys are refused or stored", answer[0] in (201, 413, 422), answer[0])
    answer = server.call("POST", CONFIGMAPS, "[" + "1," * 1000000 + "1]")
    judge.check("a million numbers are no object", is_status(answer, 400), answer)
    patch = [{"op": "add", "path": "/data", "value": {"a": "x" * 1000}}] + \
        [{"op": "copy", "from": "/data", "path": f"/data/c{i}"} for i in range(40)]
    server.call("POST", CONFIGMAPS, {"metadata": {"name": "bomb"}})
    answer = server.call("PATCH", CONFIGMAPS + "/bomb", patch, {"Content-Type": "application/json-patch+json"})
    judge.check("a patch that doubles what it copies is refused", answer[0] in (400, 413, 422), answer[0])


def sizes(judge, server):
    before = server.rss_kb()
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    answer = send_raw(server, head + b"Content-Length: 104857600\r\n\r\n" + b"x" * 1000)
    judge.check("100 MB declared: 413", is_status(answer, 413), answer)
    answer = send_raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 8)
    judge.check("8 MB in chunks: 413", is_status(answer, 413), answer)
    answer = send_raw(server, b"GET / HTTP/1.1\r\nX: " + b"y" * 200000 + b"\r\n\r\n")
    judge.check("a header of 200 KB: 431", is_status(answer, 431), answer)
    answer = send_raw(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n")
    judge.check("5,000 headers: 431", is_status(answer, 431), answer)
    answer = send_raw(server, b"GET /" + b"y" * 200000 + b" HTTP/1.1\r\n\r\n")
    judge.check("a path of 200 KB: 414 or 431", answer[0] in (414, 431), answer)
    answer = send_raw(server, b"\x00\x01\x02 garbage\r\n\r\n")
    judge.check("garbage: 400", is_status(answer, 400), answer)
    judge.check("memory stays", server.rss_kb() - before < 100 * 1024, server.rss_kb() - before)


def selectors(judge, server):
    answer = server.call("GET", PROJECTS + "?labelSelector=" + ",".join(f"k{i}" for i in range(5000)))
    judge.check("a selector of 5,000 terms is refused", is_status(answer, 400), answer)
    answer = server.call("GET", PROJECTS + "?" + "&".join(f"a{i}=1" for i in range(500)))
    judge.check("500 parameters are refused", is_status(answer, 400), answer)
    answer = server.call("GET", PROJECTS + "?continue=AAAA")
    judge.check("a made-up continue token is refused", is_status(answer, 400), answer)
    answer = server.call("GET", PROJECTS + "/%00")
    judge.check("NUL in a path is refused", answer[0] in (400, 404), answer)


def idle(judge, server):
    """Connections that do nothing: the server answers others meanwhile and stays small."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, IDLE + 1000), hard))
    wanted = min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    sockets = []
    for i in range(wanted):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(5)
        # Several source addresses: one has not enough ports for all, and another test may hold some.
        sock.bind((f"127.0.0.{2 + i % 4}", 0))
        try:
            sock.connect(("127.0.0.1", server.port))
        except OSError:
            sock.close()
            continue
        sockets.append(sock)
    began = time.monotonic()
    answer = server.call("GET", PROJECTS)
    took = time.monotonic() - began
    judge.check(f"{len(sockets)} idle connections: others are served", answer[0] == 200, answer)
    judge.check("and without delay", took < 5, took)
    judge.check("and memory stays bounded", server.rss_kb() < MEMORY_KB, server.rss_kb())
    for sock in sockets:
        sock.close()


def half_closed(judge, server):
    sock = server.connect()
    sock.sendall(f"GET {PROJECTS}?watch=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(0.2)
    sock.close()
    slow = [server.connect() for _ in range(50)]
    for sock in slow:
        sock.sendall(b"GET / HT")
    answer = server.call("GET", PROJECTS)
    judge.check("half a request holds nobody up", answer[0] == 200, answer)
    end = time.monotonic() + 15
    closed = 0
    for sock in slow:
        sock.settimeout(max(0.1, end - time.monotonic()))
        status, _ = answer_of(sock)
        closed += status in (0, 408)
        sock.close()
    judge.check("and is ended after ten seconds", closed == 50, closed)


def main():
    judge = Judge()
    server = Server().start()
    try:
        bodies(judge, server)
        sizes(judge, server)
        selectors(judge, server)
        half_closed(judge, server)
        idle(judge, server)
        judge.check("no write by any of them", server.call("GET", PROJECTS)[1]["items"] == [])
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
        judge.check("no complaint in its log", "Sanitizer" not in server.errors(), server.errors()[-2000:])
    finally:
        server.remove()
    judge.end()


if __name__ == "__main__":
    main()
