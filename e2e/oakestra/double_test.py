"""The double as its clients see it: the wire's odd forms, processes that really run, each trap."""

import base64
import json
import os
import unittest
from typing import Any

from e2e.oakestra.client import Document, Running, User, application, call, microservice, sla, wait
from e2e.oakestra.traps import TRAPS, Traps

QUICK = ("--image", "*=/bin/sh", "--report", "0.05", "--start", "0.01", "--decide", "0.02", "--fresh", "0.5")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Case(unittest.TestCase):
    def start(self, *options: str) -> User:
        double = Running(*QUICK, *options)
        self.addCleanup(double.__exit__)
        return User(double).login()

    def sleeper(self, user: User, app: str, name: str = "s1", **more: Any) -> str:
        answer = user.service(app, microservice(name, "sh", "-c", "echo up $WHO; exec sleep 1000", **more))
        self.assertEqual(answer["failed_services"], [], answer)
        return str(answer["job_id"])

    def running(self, user: User, job_id: str, count: int = 1) -> Document:
        def up() -> Any:
            job = user.job(job_id)
            states = [it.get("status") for it in job["instance_list"]]
            return job if states == ["RUNNING"] * count else None
        return dict(wait(f"{count} run", up))

    def states(self, user: User, job_id: str) -> list[Any]:
        return [it.get("status") for it in user.job(job_id)["instance_list"]]

    def programs(self, user: User) -> list[Document]:
        return [it for it in user.double.state()["programs"] if it["pid"]]


class WireTest(Case):
    def test_forms_of_answers(self) -> None:
        user = self.start()
        app = user.app()
        job_id = self.sleeper(user, app)
        twice = ["/api/applications/", f"/api/applications/{'1'.zfill(24)}", "/api/services/", f"/api/services/{app}",
                 f"/api/service/{job_id}"]
        for path in twice:
            status, answer = user.call("GET", path)
            found = json.loads(answer)
            first = found[0] if isinstance(found, list) else found
            self.assertEqual((status, len(first["_id"]["$oid"])), (200, 24), path)
        self.assertEqual(user.call("GET", f"/api/application/{app}"), (200, None))
        status, clusters = call(user.double.root, "GET", "/api/clusters/")  # nobody is asked who he is
        self.assertEqual([it["candidate_name"] for it in clusters], ["east", "west"])
        self.assertEqual([it["cluster_name"] for it in clusters], ["east", "west"])

    def test_refusals(self) -> None:
        user = self.start()
        app = user.app()
        bad = sla([application("no-good", [])])
        no_id = sla([application("app", [microservice("s1")])])
        for wanted, method, path, body in [
                (409, "POST", "/api/application/", sla([application("app", [])])),
                (422, "POST", "/api/application/", bad),
                (500, "POST", "/api/application/", {**bad, "sla_version": "v3.0"}),
                (400, "POST", "/api/service/", bad), (400, "POST", "/api/service/", no_id),
                (400, "POST", "/api/service/", {**no_id, "sla_version": "v1.0"}),
                (404, "GET", "/api/application/0", None), (501, "DELETE", "/api/application/0", None),
                (404, "GET", "/api/service/0", None), (500, "DELETE", "/api/service/0", None),
                (501, "PUT", "/api/service/0", {}), (404, "GET", "/api/services/0", None),
                (401, "GET", "/api/applications/0", None), (200, "POST", "/api/service/0/instance", None),
                (200, "DELETE", "/api/service/0/instance/-1", None), (500, "DELETE", "/api/service/0/instance/x", None),
                (404, "GET", "/nowhere", None), (405, "PUT", "/api/services/", None)]:
            self.assertEqual(user.call(method, path, body)[0], wanted, (method, path))
        self.assertEqual([it["_id"]["$oid"] for it in user.double.state()["applications"]], [app])

    def test_tokens(self) -> None:
        user = self.start("--token-lifetime", "0.2")
        old, path = user.token, "/api/application/0"
        claims = json.loads(base64.urlsafe_b64decode(old.split(".")[1] + "=="))
        self.assertAlmostEqual(claims["exp"] - claims["iat"], 0.2, places=3)
        wait("it expires", lambda: user.call("GET", "/api/services/")[0] == 401)
        self.assertEqual(user.call("GET", "/api/services/")[1], {"message": "Missing authentication token"})
        self.assertEqual(user.call("GET", path), (401, {"msg": "Token has expired"}))
        user.token = old[:-4] + "AAAA"
        self.assertEqual((user.call("GET", path)[0], user.call("GET", "/api/services/")[0]), (422, 401))
        user.token = ""
        self.assertEqual(user.call("GET", path), (401, {"msg": "Missing Authorization Header"}))
        for name, password in (("Admin", "wrong"), ("nobody", "Admin")):
            body = {"username": name, "password": password}
            self.assertEqual(call(user.double.root, "POST", "/api/auth/login", body)[0], 401)

    def test_users_see_their_own(self) -> None:
        user = self.start("--user", "Admin:Admin", "--user", "eve:secret")
        job_id = self.sleeper(user, user.app())
        eve = User(user.double, "eve", "secret").login()
        self.assertEqual(eve.call("GET", f"/api/service/{job_id}")[0], 404)
        self.assertEqual(eve.call("DELETE", f"/api/service/{job_id}")[0], 500)
        self.assertEqual(eve.call("GET", "/api/services/")[0], 403)
        self.assertEqual(eve.call("GET", "/api/user/eve")[1]["_id"]["$oid"], "2".zfill(24))
        eve.deploy(job_id)
        self.assertEqual(user.job(job_id)["instance_list"], [])

    def test_old_roots_have_old_words_and_no_addresses_to_give(self) -> None:
        user = self.start("--version", "0.4.402")
        cluster = call(user.double.root, "GET", "/api/clusters/active")[1][0]
        self.assertEqual((cluster["cluster_name"], cluster["total_cpu_cores"]), ("east", 64))
        self.assertNotIn("candidate_name", cluster)
        path = "/api/pubnet/service/netinfo/available-ip/"
        self.assertEqual(call(user.double.network, "GET", path, token=user.token)[0], 404)

    def test_addresses(self) -> None:
        user = self.start()
        path = "/api/pubnet/service/netinfo/available-ip/"
        app = user.app()

        def free(more: str = "?v=4") -> list[str]:
            status, answer = call(user.double.network, "GET", path + more, token=user.token)
            self.assertEqual(status, 200)
            return [it["Address"] for it in answer["available_service_ips"]]

        self.assertEqual(call(user.double.network, "GET", path)[0], 401)
        self.assertEqual((free(), free("2?v=4")), (["127.30.0.1"], ["127.30.0.1", "127.30.0.2"]))
        self.sleeper(user, app, addresses={"rr_ip": "127.30.0.1"})
        self.assertEqual(free(), ["127.30.0.2"])
        for address in ("127.30.0.1", "192.168.0.1", "nonsense"):
            answer = user.service(app, microservice("s2", addresses={"rr_ip": address}))
            self.assertEqual([it["service_name"] for it in answer["failed_services"]], ["s2"], address)
            self.assertEqual(user.call("GET", f"/api/service/{answer['job_id']}")[0], 404)
        path = "/api/pubnet/service/netinfo/app_test_s1_test"
        status, info = call(user.double.network, "GET", path, token=user.token)
        self.assertEqual((status, info["service_ip_list"][0]["Address"]), (200, "127.30.0.1"))


class ProcessTest(Case):
    def test_life_of_an_instance(self) -> None:
        user = self.start()
        app = user.app()
        job_id = self.sleeper(user, app, environment=["WHO=me"], constraints=[{"type": "direct", "cluster": "west"}])
        self.assertEqual(user.job(job_id)["instance_list"], [])
        user.deploy(job_id)
        instance = self.running(user, job_id)["instance_list"][0]
        self.assertEqual((instance["instance_number"], instance["cluster_id"][-1]), (0, "1"))
        wait("its output", lambda: user.job(job_id)["instance_list"][0]["logs"] == "up me\n")
        pid = self.programs(user)[0]["pid"]
        self.assertEqual(os.getpgid(pid), pid)
        self.assertEqual(user.call("DELETE", f"/api/service/{job_id}/instance/0")[0], 200)
        self.assertEqual(user.job(job_id)["instance_list"], [])
        wait("it is gone", lambda: not alive(pid))
        user.deploy(job_id)
        self.assertEqual(self.running(user, job_id)["instance_list"][0]["instance_number"], 1)
        self.assertEqual(user.call("DELETE", f"/api/application/{app}")[0], 200)
        wait("nothing is left", lambda: not self.programs(user))
        state = user.double.state()
        self.assertEqual((state["applications"], state["services"], state["addresses"]), ([], [], []))

    def test_ends(self) -> None:
        user = self.start()
        app = user.app()
        for name, command, one_shot, status in (
                ("s1", ("sh", "-c", "exit 0"), True, "COMPLETED"), ("s2", ("sh", "-c", "exit 0"), False, "DEAD"),
                ("s3", ("sh", "-c", "exit 7"), True, "FAILED"), ("s4", ("sh", "-c", "kill -9 $$"), True, "FAILED"),
                ("s5", ("no-such-program",), False, "FAILED")):
            job_id = user.service(app, microservice(name, *command, one_shot=one_shot))["job_id"]
            user.deploy(job_id)
            wait(f"{name} is {status}", lambda: self.states(user, job_id) == [status])

    def test_children_end_with_their_program_and_all_with_the_double(self) -> None:
        for end in ("stop", "kill"):
            user = self.start()
            job_id = user.service(user.app(), microservice("s1", "sh", "-c", "sleep 1000 & echo $!; wait"))["job_id"]
            user.deploy(job_id)
            self.running(user, job_id)
            child = int(wait("the child's id", lambda: user.job(job_id)["instance_list"][0]["logs"]))
            pid = self.programs(user)[0]["pid"]
            getattr(user.double, end)()
            wait("both have ended", lambda: not alive(pid) and not alive(child))

    def test_real_addresses_are_loopback_for_programs(self) -> None:
        user = self.start("--real-addresses")
        job_id = user.service(user.app(), microservice(
            "s1", "sh", "-c", "echo $LISTEN $1; sleep 1000", "-", "http://10.30.9.9:80", environment=["LISTEN=0.0.0.0"],
            addresses={"rr_ip": "10.30.0.7"}))["job_id"]
        user.deploy(job_id)
        wait("its words", lambda: [it.get("logs") for it in user.job(job_id)["instance_list"]] ==
             ["127.30.0.7 http://127.30.9.9:80\n"])

    def test_a_service_created_again_is_reset_and_what_ran_leaks(self) -> None:
        user = self.start()
        app = user.app()
        job_id = self.sleeper(user, app)
        user.deploy(job_id)
        self.running(user, job_id)
        self.assertEqual(self.sleeper(user, app), job_id)
        self.assertEqual(user.job(job_id)["instance_list"], [])
        self.assertEqual(len(self.programs(user)), 1)
        user.deploy(job_id)
        self.running(user, job_id)
        wait("two run", lambda: len(self.programs(user)) == 2)
        user.call("DELETE", f"/api/application/{app}")
        wait("nothing is left", lambda: not self.programs(user))

    def test_undeploying_all_forgets_every_other_one(self) -> None:
        user = self.start()
        job_id = self.sleeper(user, user.app())
        for count in (1, 2, 3):
            user.deploy(job_id)
            self.running(user, job_id, count)
        user.call("DELETE", f"/api/service/{job_id}/instance/-1")
        self.assertEqual([it["instance_number"] for it in user.job(job_id)["instance_list"]], [1])
        user.call("DELETE", f"/api/service/{job_id}")
        wait("nothing is left", lambda: not self.programs(user))


class TrapTest(Case):
    def test_the_same_seed_is_the_same_chance(self) -> None:
        one, two, other = (Traps("all", seed) for seed in (3, 3, 4))
        turns = [[it.springs(name) for name in sorted(TRAPS) for _ in range(200)] for it in (one, two, other)]
        self.assertEqual(turns[0], turns[1])
        self.assertNotEqual(turns[0], turns[2])
        with self.assertRaises(ValueError):
            Traps("no such trap", 1)

    def test_each_at_its_worst(self) -> None:
        user = self.start()
        app = user.app()

        def trap(name: str, odds: float = 1.0) -> None:
            user.double.do("traps", **{name: odds})

        trap("failed_services")
        answer = user.service(app, microservice("s1", "sh"))
        self.assertEqual((len(answer["deployed_services"]), len(answer["failed_services"])), (0, 1))
        trap("failed_services", 0)
        trap("doubled_names")
        self.sleeper(user, app, "s2")
        self.assertEqual([it["service_name"] for it in user.double.state()["services"]], ["s2", "s2"])
        trap("doubled_names", 0)
        trap("lost_answers")
        body = sla([{**application("app", [microservice("s3", "sh")]), "applicationID": app}])
        self.assertEqual(user.call("POST", "/api/service/", body)[0], 500)
        self.assertEqual(len(user.double.state()["services"]), 3)
        trap("lost_answers", 0)
        trap("errors")
        self.assertEqual(user.call("GET", "/api/services/")[0], 500)
        trap("errors", 0)
        trap("token_expiry")
        self.assertEqual(user.call("GET", "/api/services/")[0], 401)
        trap("token_expiry", 0)
        self.assertEqual(user.login().call("GET", "/api/services/")[0], 200)

    def test_deploys_that_overlap_lose_instances(self) -> None:
        for traps, wanted in (("lost_instances", 1), ("none", 5)):
            user = self.start("--traps", traps, "--decide", "0.3")
            job_id = self.sleeper(user, user.app())
            for _ in range(5):
                user.deploy(job_id)
            job = self.running(user, job_id, wanted)
            self.assertEqual([it["instance_number"] for it in job["instance_list"]], list(range(wanted)))

    def test_what_ended_is_started_again_for_ever(self) -> None:
        user = self.start("--traps", "restart_loop")
        job_id = user.service(user.app(), microservice("s1", "sh", "-c", "echo again; exit 1", one_shot=True))["job_id"]
        user.deploy(job_id)
        wait("the third time", lambda: [it["starts"] > 2 for it in user.double.state()["programs"]] == [True])
        self.assertIn("again\nagain\n", user.job(job_id)["instance_list"][0]["logs"])

    def test_stuck_and_stale(self) -> None:
        user = self.start("--traps", "stale_status")
        user.double.do("traps", stuck=1)
        app = user.app()
        stuck = self.sleeper(user, app)
        user.deploy(stuck)
        wait("it is scheduled", lambda: self.states(user, stuck) == ["CLUSTER_SCHEDULED"])
        user.double.do("traps", stuck=0)
        stale = self.sleeper(user, app, "s2")
        user.deploy(stale)
        self.assertEqual(self.running(user, stale)["status"], "CLUSTER_SCHEDULED")
        self.assertEqual([it["status"] for it in user.job(stuck)["instance_list"]], ["CLUSTER_SCHEDULED"])

    def test_a_root_that_restarts(self) -> None:
        user = self.start()
        job_id = self.sleeper(user, user.app())
        user.deploy(job_id)
        self.running(user, job_id)
        before = self.programs(user)
        user.double.do("root", down_s=0.3)
        with self.assertRaises(OSError):
            call(user.double.root, "GET", "/api/clusters/")

        def back() -> Any:
            try:
                return user.call("GET", f"/api/service/{job_id}")[0]
            except OSError:
                return None

        self.assertEqual(wait("it is back", back), 401)
        user.login()
        self.running(user, job_id)
        self.assertEqual([it["pid"] for it in self.programs(user)], [it["pid"] for it in before])

    def test_a_cluster_goes_and_comes_back(self) -> None:
        user = self.start()
        job_id = self.sleeper(user, user.app(), constraints=[{"type": "direct", "cluster": "west"}])
        user.deploy(job_id)
        self.running(user, job_id)

        def active() -> list[str]:
            return [it["cluster_name"] for it in call(user.double.root, "GET", "/api/clusters/active")[1]]

        user.double.do("cluster", name="west", gone_s=600, programs_too=True)
        wait("it is not active", lambda: active() == ["east"])
        self.assertEqual(user.job(job_id)["instance_list"][0]["status"], "RUNNING")  # nobody says otherwise
        other = self.sleeper(user, user.app("other"), "s2", constraints=[{"type": "direct", "cluster": "west"}])
        user.deploy(other)
        wait("it is refused", lambda: user.job(other)["status"] == "TargetClusterNotActive")
        user.double.do("cluster", name="west", gone_s=0)
        wait("it is active", lambda: active() == ["east", "west"])
        wait("the end is told", lambda: user.job(job_id)["instance_list"][0]["status"] == "FAILED")

    def test_counts(self) -> None:
        user = self.start()
        for _ in range(3):
            user.call("GET", "/api/services/")
        counts = user.double.counts()["requests"]
        self.assertEqual(counts["GET /api/services/"], {"total": 3, "by_minute": [3]})
        self.assertEqual(counts["POST /api/auth/login"]["total"], 1)
