"""The root's API by path, and the network component's: who may, what is asked of Root, and the form
of the answer. Two kinds of check of a token, as in the real one: one says 401 to whatever is wrong,
the other tells an expired token (401) from one of somebody else (422)."""

import json
import re
from typing import Any, Callable, NamedTuple, Optional

from e2e.oakestra.network import Network
from e2e.oakestra.root import Reply, Root, cluster_on_wire, with_oid
from e2e.oakestra.tokens import TokenRefused, Tokens
from e2e.oakestra.wire import Answer, Request, as_html, plain, refusal, wrapped

Act = Callable[[str, Request, tuple[str, ...]], Answer]  # user, request, what the path named


class Route(NamedTuple):
    method: str
    path: re.Pattern[str]
    template: str
    check: str  # "": none; "strict", "mild"; "refresh"
    act: Act


class Denied(Exception):
    def __init__(self, answer: Answer):
        super().__init__()
        self.answer = answer


def route(method: str, template: str, check: str, act: Act) -> Route:
    pattern = re.sub(r"<\w+>", r"([^/]+)", template)
    return Route(method, re.compile(f"^{pattern}$"), template, check, act)


def said(reply: Reply, form: Callable[[Any], Answer] = plain) -> Answer:
    code, value = reply
    return form(value) if code == 200 else refusal(code)


class Users:
    """Name and password of all there are; the first is the administrator."""

    def __init__(self, pairs: list[str]):
        self.passwords = dict(pair.partition(":")[::2] for pair in pairs)
        self.ids = {name: f"{index + 1:024x}" for index, name in enumerate(self.passwords)}

    def is_admin(self, name: str) -> bool:
        return next(iter(self.passwords)) == name


class Api:
    def __init__(self, root: Root, users: Users, tokens: Tokens):
        self.root, self.users, self.tokens = root, users, tokens
        self.routes = [
            route("POST", "/api/auth/login", "", self._login),
            route("POST", "/api/auth/refresh", "refresh", self._refresh),
            route("GET", "/api/user/<name>", "mild", self._user),
            route("POST", "/api/application/", "strict",
                  lambda user, it, _: said(root.create_app(user, it.json()), wrapped)),
            route("GET", "/api/application/<id>", "strict", lambda user, _, ids: said(root.get_app(user, ids[0]))),
            route("DELETE", "/api/application/<id>", "strict",
                  lambda user, _, ids: said(root.delete_app(user, ids[0]))),
            route("GET", "/api/applications/", "strict", self._as_admin(root.all_apps)),
            route("GET", "/api/applications/<user>", "strict", self._user_apps),
            route("POST", "/api/service/", "mild",
                  lambda user, it, _: said(root.create_services(user, it.json()))),
            route("GET", "/api/service/<id>", "mild",
                  lambda user, _, ids: said(root.get_service(user, ids[0]), wrapped)),
            route("PUT", "/api/service/<id>", "mild", lambda *_: refusal(501)),
            route("DELETE", "/api/service/<id>", "mild", lambda user, _, ids: said(root.delete_service(user, ids[0]))),
            route("GET", "/api/services/", "mild", self._as_admin(root.all_services)),
            route("GET", "/api/services/<app>", "mild",
                  lambda user, _, ids: said(root.services_of(user, ids[0]), wrapped)),
            route("POST", "/api/service/<id>/instance", "mild",
                  lambda user, _, ids: said(root.scale_up(user, ids[0]))),
            route("DELETE", "/api/service/<id>/instance/<n>", "mild",
                  lambda user, _, ids: said(root.scale_down(user, ids[0], int(ids[1])))),
            route("GET", "/api/clusters/", "", lambda *_: self._clusters(False)),
            route("GET", "/api/clusters/active", "", lambda *_: self._clusters(True)),
        ]

    def _login(self, _user: str, request: Request, _ids: tuple[str, ...]) -> Answer:
        body = request.json()
        name, password = body["username"], body["password"]
        if body.get("organization_name", "root") != "root":
            return refusal(404)
        if not name or self.users.passwords.get(name) != password:
            return refusal(401)
        return plain({"token": self.tokens.give(name, "access"), "refresh_token": self.tokens.give(name, "refresh")})

    def _refresh(self, user: str, _request: Request, _ids: tuple[str, ...]) -> Answer:
        return plain({"token": self.tokens.give(user, "access")})

    def _user(self, user: str, _request: Request, ids: tuple[str, ...]) -> Answer:
        if user != ids[0]:
            return plain({"message": "You have not enough permissions!"}, 403)
        return as_html({"_id": {"$oid": self.users.ids[user]}, "name": user, "email": "", "roles": []})

    def _user_apps(self, user: str, _request: Request, ids: tuple[str, ...]) -> Answer:
        return said(self.root.user_apps(user), wrapped) if ids[0] == self.users.ids[user] else refusal(401)

    def _as_admin(self, get: Callable[[], Reply]) -> Act:
        def act(user: str, _request: Request, _ids: tuple[str, ...]) -> Answer:
            if not self.users.is_admin(user):
                return plain({"message": "You have not enough permissions!"}, 403)
            return said(get(), wrapped)
        return act

    def _clusters(self, only_active: bool) -> Answer:
        return as_html([with_oid(cluster_on_wire(self.root.version, it))
                        for it in self.root.cluster_list(only_active)])


class NetworkApi:
    """Roots up to 0.4.402 have none of it."""

    def __init__(self, network: Network, version: str):
        self.network = network
        self.routes = [] if version == "0.4.402" else [
            route("GET", "/api/pubnet/service/netinfo/available-ip/", "mild", self._free),
            route("GET", "/api/pubnet/service/netinfo/available-ip/<x>", "mild", self._free),
            route("GET", "/api/pubnet/service/netinfo/ip/<address>", "mild",
                  lambda _user, _request, ids: self._info(None, ids[0].replace("_", "."))),
            route("GET", "/api/pubnet/service/netinfo/<name>", "mild",
                  lambda _user, _request, ids: self._info(ids[0].replace("_", "."), None)),
        ]

    def _free(self, _user: str, request: Request, ids: tuple[str, ...]) -> Answer:
        count, version = int(ids[0]) if ids else 1, request.query.get("v")
        found = [] if version == "6" else [
            {"Address": it, "Address_v6": None, "IpType": "IPv4"} for it in self.network.free(count)]
        if version != "4":
            found += [{"Address": None, "Address_v6": f"fdff:2000::{n + 1:x}", "IpType": "IPv6"} for n in range(count)]
        return plain({"available_service_ips": found})

    def _info(self, name: Optional[str], address: Optional[str]) -> Answer:
        found = self.network.find(name, address)
        return plain(found) if found else Answer(404, b'"Service not found"\n')


class Dispatcher:
    """Finds the route of a request and who asks."""

    def __init__(self, routes: list[Route], tokens: Tokens):
        self._routes, self._tokens = routes, tokens

    def find(self, request: Request) -> tuple[Optional[Route], tuple[str, ...]]:
        for it in self._routes:
            match = it.path.match(request.path)
            if match and it.method == request.method:
                return it, match.groups()
        return None, ()

    def run(self, found: Optional[Route], ids: tuple[str, ...], request: Request) -> Answer:
        if not found:
            known = any(it.path.match(request.path) for it in self._routes)
            return refusal(405 if known else 404)
        try:
            user = self._user(found.check, request)
            return found.act(user, request, ids)
        except Denied as denied:
            return denied.answer
        except json.JSONDecodeError:
            return refusal(400)
        except (KeyError, TypeError, ValueError, AttributeError):
            return refusal(500)  # what is not caught there, either

    def _user(self, check: str, request: Request) -> str:
        if not check:
            return ""
        try:
            return self._tokens.user_of(request.bearer() or "", "refresh" if check == "refresh" else "access")
        except TokenRefused as refused:
            raise Denied(denial(check, refused, request)) from refused


def denial(check: str, refused: TokenRefused, request: Request) -> Answer:
    if check == "mild":
        return plain({"message": "Missing authentication token"}, 401)
    if not request.bearer():
        return plain({"msg": "Missing Authorization Header"}, 401)
    return plain({"msg": str(refused)}, 401 if refused.expired else 422)
