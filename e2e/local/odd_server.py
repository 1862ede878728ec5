"""A server of another make, for the command line to get on with: no aggregated discovery, warnings,
watches that end in 410, pages that expire, answers that are no JSON.  Prints its port; serves plain HTTP."""
import http.server
import json
import threading
import urllib.parse

TOOLS = "/apis/odd.test/v1/namespaces/default/tools"
lists = watches = 0
lock = threading.Lock()


def tool(name, version):
    return {"apiVersion": "odd.test/v1", "kind": "Tool",
            "metadata": {"name": name, "namespace": "default", "uid": "uid-" + name, "resourceVersion": str(version)}}


def status(code, reason, message):
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}


def listing(items, version, more=""):
    return 200, {"kind": "ToolList", "apiVersion": "odd.test/v1", "items": items,
                 "metadata": {"resourceVersion": str(version), "continue": more}}


def discovery(path):
    resource = {"name": "tools", "singularName": "tool", "namespaced": True, "kind": "Tool", "shortNames": ["tl"],
                "verbs": ["list", "get", "watch", "patch", "delete"]}
    documents = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
        "/apis": {"kind": "APIGroupList", "groups": [
            {"name": "odd.test", "versions": [{"groupVersion": "odd.test/v1", "version": "v1"}]},
            {"name": "gone.test", "versions": [{"groupVersion": "gone.test/v1", "version": "v1"}]}]},
        "/apis/odd.test/v1": {"kind": "APIResourceList", "groupVersion": "odd.test/v1", "resources": [resource]},
    }
    if path in documents:
        return 200, documents[path]
    return status(503, "ServiceUnavailable", "the group is away") if path == "/apis/gone.test/v1" else None


def list_tools(query):
    """The pages of "limit" expire after the first; what there is grows with each whole list."""
    global lists
    if "continue" in query:
        return status(410, "Expired", "The provided continue parameter is too old")
    if "limit" in query and query["limit"] == ["1"]:
        return listing([tool("hammer", 1)], 1, "next")
    with lock:
        lists += 1
        return listing([tool("hammer", 1)] + ([tool("saw", 2)] if lists > 1 else []), lists)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, body, warning=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        if warning:
            self.send_header("Warning", warning)
        self.end_headers()
        self.wfile.write(data)

    def watch(self):
        """The first ends in 410, the second breaks off in the middle of a line, the third stays."""
        global watches
        with lock:
            watches += 1
            turn = watches
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if turn == 1:
            error = status(410, "Expired", "too old resource version")[1]
            self.wfile.write(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
        elif turn == 2:
            self.wfile.write(json.dumps({"type": "ADDED", "object": tool("file", 3)}).encode() + b"\n{\"type\":\"ADD")
        else:
            self.wfile.write(json.dumps({"type": "ADDED", "object": tool("drill", 4)}).encode() + b"\n")
            self.wfile.flush()
            threading.Event().wait(20)

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        found = discovery(url.path)
        if found:
            self.answer(*found)
        elif url.path == TOOLS and "watch" in query:
            self.watch()
        elif url.path == TOOLS:
            self.answer(*list_tools(query))
        elif url.path == TOOLS + "/hammer":
            self.answer(200, tool("hammer", 1), '299 - "a \\"hammer\\" is old"')
        elif url.path == TOOLS + "/html":
            self.answer(502, b"<html>bad gateway</html>")
        elif url.path == TOOLS + "/garbage":
            self.answer(200, b"{\"kind\": ")
        elif url.path == TOOLS + "/moved":
            self.answer(301, b"")
        else:
            self.answer(*status(404, "NotFound", "tools.odd.test not found"))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
