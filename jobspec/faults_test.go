package jobspec

import (
	"fmt"
	"strings"
	"testing"

	"cube/api"
)

// inTask puts a line into a task that is otherwise sound; it is line 3.
func inTask(line string) string { return "task \"t\" {\n  image = \"i\"\n  " + line + "\n}\n" }

// inDevice puts a line into a device block of such a task; it is line 5.
func inDevice(kind, line string) string {
	return inTask("resources {\n device \"" + kind + "\" {\n" + line + "\n}\n}")
}

// inCheck puts a line into a check of such a task, which has two ports; it is line 6.
func inCheck(line string) string {
	return inTask("port \"http\" {}\n  port \"admin\" {}\n check \"up\" {\n" + line + "\n}")
}

// inShop puts a line into the second of a job's two tasks, db and web; it is line 5.
func inShop(line string) string {
	return "job \"shop\" {\n  task \"db\" { image = \"i\" }\n  task \"web\" {\n    image = \"i\"\n    " + line + "\n  }\n}\n"
}

// TestEachFaultIsSaidWhereItIs holds single faults to their place and the beginning of their sentence, which is all there
// is to say of the file.
func TestEachFaultIsSaidWhereItIs(t *testing.T) {
	cases := []struct{ src, want string }{
		// counts and numbers
		{inTask(`count = -1`), `3:11: count -1 is not from 0 to 100000`},
		{inTask(`count = 100001`), `3:11: count 100001 is not from`},
		{inTask(`count = 1.5`), `3:11: count takes a whole number, not 1.5`},
		{inTask(`count = "3"`), `3:11: count takes a number, not text`},
		{inTask(`count = null`), `3:11: count is null; leave it out to get the default`},
		{inTask(`count = 1e9`), `3:11: a number is written without an exponent`},
		{inTask(`count = 1000000000000000000`), `3:11: a number has too many digits`},
		{inTask(`count = 999999999999999 * 999999999999999`), `3:11: count takes a whole number, not 99999`},
		{inTask(`count = 1 / 0`), `3:11: `},
		{inTask(`priority = 0`), `3:14: priority 0 is not from 1 to 100`},
		{inTask(`resources { memory = 0 }`), `3:24: memory 0 MiB is not from 6 MiB up`},
		{inTask(`resources { memory = 128.5 }`), `3:24: memory takes a whole number of MiB`},
		{inTask(`resources { memory = "512" }`), `3:24: memory takes MiB as a number without quotes`},
		{inTask(`resources { memory = "512XB" }`), `3:24: memory `},
		{inTask(`resources { memory = 999999999999999 }`), `3:24: memory `},
		{inTask(`resources { disk = -1 }`), `3:22: disk -1 MiB is not from 0 up`},
		{inTask(`resources { cpu = 0 }`), `3:21: cpu 0 is not from 0.001 cores up`},
		{inTask(`resources { cpu = "much" }`), `3:21: cpu takes cores, such as 0.25`},
		{inTask(`resources { cpu = 999999999999999 }`), `3:21: cpu 1e+15 is more than a machine has`},
		{inTask(`resources { cpus = 1 }`), `3:15: unknown key "cpus"; did you mean "cpu"?`},
		{inTask("resources {}\n  resources {}"), `4:3: resources is there already, at f.hcl:3:3`},
		// parts
		{inTask(`sidecar "p" {}`), `3:3: image is missing; the docker driver needs one`},
		{inTask(`sidecar { image = "i" }`), `3:3: sidecar takes one name, as in sidecar "name" { ... }`},
		{inTask(`sidecar "P" { image = "i" }`), `3:3: its name is not a name`},
		{inTask(`sidecar "p" { image = "I" }`), `3:25: image "I" is not the name of an image`},
		{inTask("sidecar \"p\" { image = \"i\" }\n  prestart \"p\" { image = \"i\" }"), `3:11: a part of the task is called "p" already, at f.hcl:4:12`},
		{inTask("prestart \"p\" {\n    image = \"i\"\n    port \"http\" {}\n  }"), `5:5: unknown key "port"; a prestart has none of its own: ports belong to the task`},
		{inTask("sidecar \"p\" {\n    image = \"i\"\n    restart {}\n  }"), `5:5: unknown key "restart"; it belongs to the task, and counts for its sidecars too`},
		{inTask("sidecar \"p\" {\n    image = \"i\"\n    timeout = \"5s\"\n  }"), `5:5: unknown key "timeout"; it belongs into prestart "name" or poststop "name"`},
		{inTask("poststop \"p\" {\n    image = \"i\"\n    timeout = \"0s\"\n  }"), `5:15: timeout 0s is not from 1s up`},
		{inTask("prestart \"p\" {\n    image = \"i\"\n    imagee = \"i\"\n  }"), `5:5: unknown key "imagee"; did you mean "image"?`},
		{inTask("sidecar \"p\" {\n    image = \"i\"\n    volumes = [\"data\"]\n  }"), `5:15: volumes: the task has no volume "data"`},
		{inTask("sidecar \"p\" {\n    image = \"i\"\n    config { hostname = \"h\" }\n  }"), `5:25: hostname belongs to the task`},
		{inTask("sidecar \"p\" {\n    image = \"i\"\n    resources { memory = 1 }\n  }"), `5:26: memory 1 MiB is not from`},
		{"task \"t\" {\n  driver = \"raw_exec\"\n  command = \"x\"\n  sidecar \"p\" { command = \"y\" }\n}\n", `4:3: a sidecar needs a driver with containers`},
		// ports
		{inTask(`port "http" { static = 65536 }`), `3:26: static 65536 is not from 1 to 65535`},
		{inTask(`port "http" { to = 0 }`), `3:22: to 0 is not from 1 to 65535`},
		{inTask(`port "http" { static = 25000 }`), `3:26: static 25000 is one of the dynamic ports`},
		{inTask("port \"a\" { static = 80 }\n  port \"b\" { static = 80 }"), `4:23: port "a" has 80 on the host already`},
		{inTask("port \"a\" {}\n  port \"a\" {}"), `4:8: port "a" is there already, at f.hcl:3:8`},
		{inTask(`port "../x" {}`), `3:3: port label "../x" is not a name`},
		{inTask(`port {}`), `3:3: port takes one name, as in port "name" { ... }`},
		{inTask(`port = 80`), `3:3: port is a block: write port { ... } without =`},
		// names
		{`task "../x" { image = "i" }`, `1:6: "../x" is not a name: lower-case letters`},
		{`task "" { image = "i" }`, `1:6: "" is empty`},
		{`task "Web" { image = "i" }`, `1:6: "Web" is not a name`},
		{`task "a.b" { image = "i" }`, `1:6: "a.b" is not a name`},
		{"task \"a\u202eb\" { image = \"i\" }", `1:6: "a\u202eb" is not a name`},
		{`task "` + strings.Repeat("a", 64) + `" { image = "i" }`, `1:6: "` + strings.Repeat("a", 64) + `" has 64 characters`},
		{`task { image = "i" }`, `1:1: task takes one name`},
		{`task "a" "b" { image = "i" }`, `1:1: task takes one name`},
		{"task \"a\" { image = \"i\" }\njob \"a\" {}", `2:5: job "a" is there already, at f.hcl:1:6`},
		{"job \"j\" {\n  task \"a\" { image = \"i\" }\n  task \"a\" { imag = 1 }\n}", `3:8: task "a" is there already, at f.hcl:2:8`},
		// what runs
		{`task "t" {}`, `1:1: image is missing; the docker driver needs one`},
		{inTask(`driver = "podman"`), `3:12: driver "podman" is none of docker, raw_exec`},
		{inTask(`driver = "raw_exec"`), `1:1: command is missing; the raw_exec driver needs one`},
		{`task "t" { image = "-v" }`, `1:20: image "-v" is not the name of an image`},
		{`task "t" { image = 5 }`, `1:20: image takes text, not a number`},
		{inTask(`args = "x"`), `3:10: args takes a list such as ["a", "b"], not text`},
		{inTask(`args = ["x", null]`), `3:10: args[1] takes a text, not null`},
		{inTask(`args = ["x", ["y"]]`), `3:10: args[1] takes a text, not a list`},
		{inTask(`env = "x"`), `3:9: env takes a map such as { NAME = "value" }, not text`},
		{inTask(`env = { A = ["x"] }`), `3:9: env: A takes a text, not a list`},
		{inTask("env { A = 1 }\n  env = { B = 2 }"), `4:3: env is there both as a block and as an attribute`},
		{inTask(`env = { "A=B" = "x" }`), `3:9: env: "A=B" is not the name of a variable`},
		{inTask(`kill_signal = "SIGFOO"`), `3:17: kill_signal "SIGFOO" is none of SIGTERM`},
		{inTask(`migrate { max_parallel = 0 }`), `3:28: max_parallel`},
		{inTask(`migrate { min_healthy_time = "-1s" }`), `3:32: min_healthy_time -1s is not from 0 to 24h0m0s`},
		{inTask(`migrate { min_healthy_time = "0s" }`), `3:32: min_healthy_time 0s is not above 0; leave it out for what update says`},
		{inTask(`migrate { healthy_deadline = "0s" }`), `3:32: healthy_deadline 0s is not above 0; leave it out for what update says`},
		{inTask(`migrate { healthy_deadline = "5s" }`), `3:32: healthy_deadline 5s is not above min_healthy_time 5s: no instance could be healthy in time`},
		{inTask("ephemeral_disk {\n sticky = true\n move = \"maybe\"\n }"), `5:9: move "maybe" is none of try, must, never`},
		{inTask(`ephemeral_disk { move = "must" }`), `3:27: move is for a directory that is sticky`},
		{inTask("ephemeral_disk { sticky = true }\n migrate { order = \"start-first\" }"), `4:20: order start-first runs two instances side by side, so the data of a sticky ephemeral_disk cannot move with them; use stop-first, or move = "never" in ephemeral_disk`},
		{inTask(`migrate { order = "both" }`), `3:21: order "both" is neither start-first nor stop-first`},
		{inTask(`shutdown_delay = "-5s"`), `3:20: shutdown_delay -5s is not from 0 to`},
		{inTask(`kill_timeout = 5`), `3:18: kill_timeout takes a duration in quotes, such as "10s"`},
		{inTask(`kill_timeout = "soon"`), `3:18: kill_timeout takes a duration such as "10s" or "1m30s", not "soon"`},
		{inTask(`kill_timeout = "-5s"`), `3:18: kill_timeout -5s is not from 0 to`},
		{inTask(`restart { interval = "1ns" }`), `3:24: interval 1ns is not from 1s to a year`},
		{inTask(`restart { mode = "fial" }`), `3:20: mode "fial" is neither delay nor fail`},
		{inTask(`restart { attempts = -2 }`), `3:24: attempts -2 is not from -1`},
		{inTask(`restart { attempts = 0 }`), `3:24: attempts 0 with mode delay would wait for ever`},
		// config
		{inTask(`config { privileged = true }`), `3:12: unknown key "privileged"; the docker driver takes cap_drop,`},
		{inTask(`config { hostnam = "x" }`), `3:12: unknown key "hostnam"; did you mean "hostname"?`},
		{inTask(`config { read_only = "yes" }`), `3:24: read_only: a bool is expected, not "yes"`},
		{inTask(`config { log_max_size = "big" }`), `3:27: log_max_size: `},
		{inTask(`config { cap_drop = [1] }`), `3:23: cap_drop: a list of strings is expected`},
		{inTask(`config { labels = "x" }`), `3:21: labels takes a map such as`},
		{inTask(`hostname = "x"`), `3:3: unknown key "hostname"; it belongs into config { ... }`},
		{"task \"t\" {\n  driver = \"raw_exec\"\n  command = \"/x\"\n  config { a = 1 }\n}", `4:12: unknown key "a"; the raw_exec driver takes none`},
		// where it runs
		{inTask("constraint {\n attribute = \"datacenter\"\n value = \"x\"\n }"), `4:14: "datacenter" is not an attribute; did you mean node.datacenter?`},
		{inTask("constraint {\n attribute = \"rack\"\n value = \"x\"\n }"), `4:14: "rack" is not an attribute; did you mean meta.rack?`},
		{inTask("constraint {\n attribute = \"env.HOME\"\n value = \"x\"\n }"), `4:14: "env.HOME" does not begin with node., attr. or meta., as node.name and attr.KEY do`},
		{inTask("constraint {\n attribute = \"node.nmae\"\n value = \"x\"\n }"), `4:14: nodes have no "node.nmae"; there are node.id, node.name, node.datacenter and node.address`},
		{inTask("constraint {\n attribute = node.name\n value = \"x\"\n }"), `4:14: node.name is known only when an instance starts: it stands by itself in a text, as in "${node.name}"`},
		{inTask("constraint {\n attribute = \"${node.name}x\"\n value = \"x\"\n }"), `4:14: `},
		{inTask("constraint {\n value = \"x\"\n }"), `3:3: attribute is missing`},
		{inTask("constraint {\n attribute = \"meta.rack\"\n value = \"a\"\n }\n constraint {\n attribute = \"meta.rack\"\n value = \"b\"\n }"), `9:10: meta.rack cannot be "b" and, as another constraint has it, "a": no node is both`},
		{inTask("constraint {\n attribute = \"node.name\"\n operator = \"~\"\n value = \"x\"\n }"), `5:13: operator "~" is none of`},
		{inTask("constraint {\n attribute = \"node.name\"\n operator = \"regexp\"\n value = \"a[\"\n }"), `6:10: "a[" is not a regular expression`},
		{inTask("constraint {\n attribute = \"node.name\"\n operator = \"regexp\"\n value = \"((a{1,100}){1,10}){1,1}" + strings.Repeat("b{1,1000}", 20) + "\"\n }"), `6:10: the regular expressions of this file are too large`},
		{inTask("constraint {\n attribute = \"attr.v\"\n operator = \"version\"\n value = \"x\"\n }"), `6:10: "x" is not a list of versions`},
		{inTask("constraint {\n attribute = \"attr.v\"\n operator = \"semver\"\n value = \"~> 1.2\"\n }"), `6:10: semver does not take ~>; write a range`},
		{inTask("constraint {\n attribute = \"attr.v\"\n operator = \"semver\"\n value = \"1.2.x\"\n }"), `6:10: "1.2.x" is not a semantic version`},
		{inTask("constraint {\n attribute = \"attr.v\"\n operator = \"semver\"\n value = \",\"\n }"), `6:10: a list of versions is expected`},
		{inTask("constraint {\n distinct_hosts = true\n value = \"x\"\n }"), `3:3: distinct_hosts = true stands alone in its constraint`},
		{inTask("affinity {\n attribute = \"meta.a\"\n value = \"b\"\n weight = 0\n }"), `6:11: weight 0 asks for nothing`},
		{inTask("affinity {\n attribute = \"meta.a\"\n value = \"b\"\n weight = 101\n }"), `6:11: weight 101 is not from -100 to 100`},
		{inTask("spread {\n attribute = \"meta.a\"\n target \"x\" { percent = 60 }\n target \"y\" { percent = 50 }\n }"), `3:3: the targets add up to 110 percent`},
		{inTask("spread {\n attribute = \"meta.a\"\n target \"x\" {}\n }"), `5:2: percent is missing`},
		{inTask("constraint {\n atribute = \"node.name\"\n }"), `4:2: unknown key "atribute"; did you mean "attribute"?`},
		{inTask("spread {}"), `3:3: attribute is missing`},
		{inTask("affinity {\n attribute = \"meta.a\"\n operator = \"distinct_hosts\"\n }"), `5:13: distinct_hosts is for constraints; use spread`},
		// checks
		{inCheck(`port = "http"`), `5:2: type is missing; it is one of http, tcp`},
		{inCheck("type = \"udp\"\n port = \"http\""), `6:8: type "udp" is none of http, tcp`},
		{inCheck(`type = "tcp"`), `5:2: port is missing; it is one of admin, http`},
		{inCheck("type = \"tcp\"\n port = \"https\""), `7:9: the task has no port "https"; it has admin, http`},
		{inCheck("type = \"tcp\"\n port = 80"), `7:9: port takes text, not a number`},
		{inTask("check \"up\" {\n type = \"tcp\"\n}"), `3:3: a check of type tcp needs a port, and the task has none`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n path = \"/\""), `8:9: path has no meaning for a check of type tcp`},
		{inCheck("type = \"http\"\n port = \"http\"\n path = \"health\""), `8:9: path "health" is not a path such as /health`},
		{inCheck("type = \"http\"\n port = \"http\"\n command = [\"x\"]"), `8:12: command has no meaning for a check of type http`},
		{inCheck("type = \"http\"\n port = \"http\"\n headers = { \"a b\" = 1 }"), `8:12: headers: "a b" is not the name of a header`},
		{inCheck("type = \"exec\""), `5:2: command is missing; an exec check needs one`},
		{inCheck("type = \"exec\"\n command = \"pg_isready\""), `7:12: command takes a list such as ["a", "b"], not text`},
		{inCheck("type = \"exec\"\n command = [\"x\"]\n port = \"http\""), `8:9: port has no meaning for a check of type exec`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n interval = \"-1s\""), `8:13: interval -1s is not from 1s to 24h0m0s`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n interval = \"0s\""), `8:13: interval 0s is not from 1s`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n timeout = \"0s\""), `8:12: timeout 0s is not above 0`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n timeout = \"11s\""), `8:12: timeout 11s is longer than interval (10s)`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n restart_after = -1"), `8:18: restart_after -1 is not from 0 to 1000`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n failures_before_critical = 0"), `8:29: failures_before_critical 0 is not from 1 to 1000`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n interval_ = \"1s\""), `8:2: unknown key "interval_"; did you mean "interval"?`},
		{inCheck("type = \"tcp\"\n port = \"http\"\n}\n check \"up\" {\n type = \"tcp\"\n port = \"http\""), `9:8: check "up" is there already, at f.hcl:5:8`},
		{inTask("check \"Up\" {\n type = \"tcp\"\n}\nport \"a\" {}"), `3:9: check name "Up" is not a name`},
		{inTask(`check { type = "tcp" }`), `3:3: check takes one name, as in check "name" { ... }`},
		{inTask(`start_period = "1s"`), `3:3: unknown key "start_period"; it belongs into check "name" { ... }`},
		{inTask(`update { max_parallel = 0 }`), `3:27: max_parallel 0 is not from 1 to 100000`},
		{inTask(`update { order = "sideways" }`), `3:20: order "sideways" is neither stop-first nor start-first`},
		{inTask(`update { healthy_deadline = "0s" }`), `3:31: healthy_deadline 0s is not above 0`},
		{inTask(`update { healthy_deadline = "5s" }`), `3:31: healthy_deadline 5s is not above min_healthy_time 5s: no instance could be healthy in time`},
		{inTask(`update { progress_deadline = "1m" }`), `3:32: progress_deadline 1m0s is below healthy_deadline 5m0s`},
		{inTask(`update { progress_deadline = "-1m" }`), `3:32: progress_deadline -1m0s is not above 0`},
		{inTask(`update { canary = -1 }`), `3:21: canary -1 is not from 0 to 100000`},
		{inTask(`update { auto_promote = true }`), `3:27: auto_promote has nothing to promote: canary is 0`},
		{inTask(`update { auto_revert = "perhaps" }`), `3:26: auto_revert takes true or false`},
		{inTask(`update { canaries = 1 }`), `3:12: unknown key "canaries"; update takes auto_promote, auto_revert, canary`},
		// reschedule
		{inTask("reschedule {\n unlimited = true\n attempts = 1\n}"), `4:2: unlimited and attempts contradict each other; use one`},
		{inTask("reschedule {\n unlimited = false\n}"), `4:2: unlimited = false needs attempts`},
		{inTask("reschedule {\n attempts = -1\n}"), `4:13: attempts -1 is not from 0`},
		{inTask("restart {\n attempts = 1\n mode = \"fail\"\n}\nreschedule {\n delay = \"-1s\"\n}"), `8:10: delay -1s is not from 0 to 24h0m0s`},
		{inTask("restart {\n attempts = 1\n mode = \"fail\"\n}\nreschedule {\n delay_function = \"linear\"\n}"), `8:19: delay_function "linear" is none of constant, exponential, fibonacci`},
		{inTask("restart {\n attempts = 1\n mode = \"fail\"\n}\nreschedule {\n interval = \"1h\"\n}"), `8:13: interval has no meaning without attempts`},
		{inTask("reschedule {\n delay = \"1m\"\n}"), `3:3: reschedule would never be asked: the restart policy goes on for ever; give restart { attempts = 3, mode = "fail" } too`},
		{inTask("delay_function = \"constant\""), `3:3: unknown key "delay_function"; it belongs into reschedule { ... }`},
		{inTask(`update { min_healthy_time = "-1s" }`), `3:31: min_healthy_time -1s is not from 0 to 24h0m0s`},
		// volumes
		{inTask("volume \"data\" {}"), `3:3: destination is missing: where the volume is inside the container, such as /var/lib/data`},
		{inTask("volume \"Data\" {\n destination = \"/d\"\n}"), `3:3: volume name "Data" is not a name`},
		{inTask("volume \"data\" {\n destination = \"d\"\n}"), `4:16: destination "d" is not a plain path from the root, such as /srv/data`},
		{inTask("volume \"data\" {\n destination = \"/proc/x\"\n}"), `4:16: destination "/proc/x" is the kernel's`},
		{inTask("volume \"data\" {\n destination = \"/\"\n}"), `4:16: destination "/" is all of the file system`},
		{inTask("volume \"data\" {\n destination = \"/d\"\n access = \"rw\"\n}"), `5:11: access "rw" is none of single-writer, multi-writer, multi-reader`},
		{inTask("volume \"data\" {\n destination = \"/d\"\n access = \"multi-writer\"\n read_only = true\n}"), `6:14: read_only = true is access "multi-reader", not "multi-writer"`},
		{inTask("volume \"a\" {\n destination = \"/d\"\n}\nvolume \"b\" {\n destination = \"/d\"\n}"), `7:16: destination "/d" belongs to volume "a" already`},
		{inTask("volume \"a\" {\n destination = \"/d\"\n}\nvolume \"b\" {\n source = \"a\"\n destination = \"/e\"\n}"), `7:11: source "a" belongs to volume "a" already`},
		{inTask("volume \"a\" {\n destination = \"/d\"\n}\nvolume \"a\" {\n destination = \"/e\"\n}"), `6:8: volume "a" is there already, at f.hcl:3:10`},
		{inTask("destination = \"/d\""), `3:3: unknown key "destination"; it belongs into volume "name" { ... }`},
		{inTask("update { order = \"start-first\" }\nvolume \"a\" {\n destination = \"/d\"\n}"), `3:20: order start-first runs two instances side by side, of which only one may write to volume "a"; use stop-first, or access multi-writer`},
		// ephemeral_disk
		{inTask("ephemeral_disk {\n destination = \"data\"\n}"), `4:16: destination "data" is not a plain path from the root, such as /srv/data`},
		{inTask("ephemeral_disk {\n destination = \"/dev\"\n}"), `4:16: destination "/dev" is the kernel's`},
		{inTask("ephemeral_disk {\n destination = \"/d\"\n}\nvolume \"a\" {\n destination = \"/d\"\n}"), `4:16: destination "/d" belongs to volume "a" already`},
		{inTask("ephemeral_disk {\n sticky = true\n}\nupdate { order = \"start-first\" }"), `6:18: order start-first runs two instances side by side, and a sticky ephemeral_disk is handed from one to the next; use stop-first`},
		{inTask("ephemeral_disk {\n sticky = true\n}\nupdate { canary = 1 }"), `6:19: a canary runs beside the instance whose place it is to take, and a sticky ephemeral_disk is handed from one to the next; leave canary out`},
		{inTask("sticky = true"), `3:3: unknown key "sticky"; it belongs into ephemeral_disk { ... }`},
		// devices
		{inTask("device \"gpu\" {}"), `3:3: unknown key "device"; it belongs into resources { ... }`},
		{inTask("share = 0.5"), `3:3: unknown key "share"; it belongs into device "type" { ... }`},
		{inDevice(`gpu`, `count = 0`), `5:9: count 0 is not from 1 to 64`},
		{inDevice(`gpu`, `count = 65`), `5:9: count 65 is not from 1 to 64`},
		{inDevice(`gpu`, `share = 0`), `5:9: share 0 is not from 0.001 to 1`},
		{inDevice(`gpu`, `share = -0.5`), `5:9: share -0.5 is not from 0.001 to 1`},
		{inDevice(`gpu`, `share = 2`), `5:9: share 2 is more than one device; for several there is count`},
		{inDevice(`gpu`, `share = 0.0005`), `5:9: share 0.0005 is not a whole number of thousandths, such as 0.125`},
		{inDevice(`gpu`, `share = 0.3333`), `5:9: share 0.3333 is not a whole number of thousandths`},
		{inDevice(`gpu`, `share = "half"`), `5:9: share takes a fraction of one device, such as 0.5, not text`},
		{inDevice(`gpu`, "count = 2\n share = 0.5"), `6:10: share 0.5 is part of one device and count is 2; ask for one device or for whole ones`},
		{inDevice(`GPU`, ``), `4:2: the type of device "GPU" is not a name`},
		{inDevice(`gpu`, "}\n device \"gpu\" {"), `6:9: device "gpu" is there already, at f.hcl:4:9; ask for more of one type by count`},
		{inDevice(`gpu`, `model = "A100"`), `5:1: unknown key "model"; device takes constraint, count, share`},
		{inDevice(`gpu`, "constraint {\n attribute = \"model\"\n value = \"x\"\n }"), `6:14: "model" is not an attribute; did you mean device.model?`},
		{inDevice(`gpu`, "constraint {\n attribute = \"node.name\"\n value = \"x\"\n }"), `6:14: "node.name" is not about a device; there are device.model and device.KEY`},
		{inDevice(`gpu`, "constraint {\n value = \"x\"\n }"), `5:1: attribute is missing, such as "device.model"`},
		{inDevice(`gpu`, "constraint {\n distinct_hosts = true\n }"), `6:2: unknown key "distinct_hosts"`},
		{inDevice(`gpu`, "constraint {\n attribute = \"device.model\"\n operator = \"~\"\n value = \"x\"\n }"), `7:13: operator "~" is none of`},
		{inDevice(`gpu`, "constraint {\n attribute = \"device.model\"\n operator = \"distinct_hosts\"\n }"), `7:13: distinct_hosts is about nodes, not devices`},
		{inDevice(`gpu`, "constraint {\n attribute = \"device.model\"\n operator = \"regexp\"\n value = \"a[\"\n }"), `8:10: "a[" is not a regular expression`},
		{inDevice(`gpu`, "constraint {\n attribute = \"device.driver\"\n operator = \"semver\"\n value = \"~> 1.2\"\n }"), `8:10: semver does not take ~>`},
		{inTask("constraint {\n attribute = \"device.model\"\n value = \"x\"\n }"), `4:14: "device.model" is about a device; it belongs into a constraint of device`},
		// tasks that wait for others
		{inTask(`depends_on "db" {}`), `3:3: the job has no task "db", nor any other than t`},
		{inTask(`depends_on {}`), `3:3: depends_on takes one name, as in depends_on "name" { ... }`},
		{inTask(`condition = "healthy"`), `3:3: unknown key "condition"; it belongs into depends_on "task" { ... }`},
		{inShop(`depends_on "web" {}`), `5:5: a task cannot wait for itself`},
		{inShop(`depends_on "cache" {}`), `5:5: the job has no task "cache"; it has db`},
		{inShop("depends_on \"db\" {}\n depends_on \"db\" {}"), `5:5: it is there twice`},
		{inShop(`depends_on "db" { condition = "ready" }`), `5:35: condition "ready" is none of healthy, running, complete`},
		{inShop(`depends_on "db" { timeout = "0s" }`), `5:33: timeout 0s is not from 1s up; leave it out to wait for as long as it takes`},
		{inShop(`depends_on "db" { timeout = "-5m" }`), `5:33: timeout -5m0s is not from 1s up; leave it out to wait for as long as it takes`},
		{inShop(`depends_on "db" { timeout = 5 }`), `5:33: timeout takes a duration in quotes, such as "10s" or "1m30s"`},
		{inShop(`depends_on "db" { condition = "complete" }`), `5:35: condition complete is for batch jobs: instances of a service job do not end`},
		{inShop(`depends_on "db" { after = "5s" }`), `5:23: unknown key "after"; depends_on takes condition`},
		{strings.Replace(inShop(`depends_on "db" {}`), `{ image = "i" }`, "{\n image = \"i\"\n depends_on \"web\" {}\n }", 1), `4:2: db -> web -> db wait for each other, so that none would start`},
		// jobs and files
		{``, `1:1: the file holds no task`},
		{`locals { a = 1 }`, `1:1: the file holds no task`},
		{`job "j" {}`, `1:1: there is no task in it`},
		{`group "g" {}`, `1:1: unknown key "group"; a task file takes job, locals, task, variable`},
		{`taks "t" {}`, `1:1: unknown key "taks"; did you mean "task"?`},
		{`image = "x"`, `1:1: unknown key "image"`},
		{"job \"j\" {\n  image = \"x\"\n  task \"t\" { image = \"x\" }\n}", `2:3: unknown key "image"; it belongs to a task`},
		{inTask(`type = "daemon"`), `3:10: type "daemon" is none of service, batch, system, sysbatch`},
		{inTask("periodic {\n crons = [\"@daily\"]\n }"), `3:3: periodic is for batch and sysbatch jobs: a service job runs until it is stopped`},
		{inTask("type = \"batch\"\n periodic {\n }"), `4:2: crons is missing: give times such as ["30 2 * * *"]`},
		{inTask("type = \"batch\"\n periodic {\n crons = [\"0 0 30 2 *\"]\n }"), `5:10: crons: "0 0 30 2 *" never comes due`},
		{inTask("type = \"batch\"\n periodic {\n crons = [\"0 25 * * *\"]\n }"), `5:10: crons: hour "25" is not from 0 to 23`},
		{inTask("type = \"batch\"\n periodic {\n crons = [\"@daily\"]\n time_zone = \"Mars/Olympus\"\n }"), `6:14: time_zone "Mars/Olympus" is not known`},
		{inTask("type = \"batch\"\n periodic {\n crons = [\"@daily\"]\n on_missed = \"later\"\n }"), `6:14: on_missed "later" is neither skip nor run`},
		{inTask("type = \"batch\"\n periodic {\n cron = \"@daily\"\n }"), `5:2: unknown key "cron"; did you mean "crons"?`},
		{inTask("parameterized {\n }"), `3:3: parameterized is for batch and sysbatch jobs: a service job runs until it is stopped`},
		{inTask("type = \"batch\"\n parameterized {\n payload = \"maybe\"\n }"), `5:12: payload "maybe" is none of optional, required, forbidden`},
		{inTask("type = \"batch\"\n parameterized {\n meta_required = [\"a.b\"]\n }"), `5:18: meta_required: "a.b" cannot be the end of a variable's name, as in CUBE_META_size`},
		{inTask("type = \"batch\"\n parameterized {\n meta_required = [\"a\"]\n meta_optional = [\"b\", \"a\"]\n }"), `6:18: meta_optional: "a" is there twice`},
		{inTask("type = \"batch\"\n parameterized {\n meta = [\"a\"]\n }"), `5:2: unknown key "meta"; parameterized takes meta_optional, meta_required, payload`},
		{inTask("type = \"batch\"\n parameterized {}\n periodic {\n crons = [\"@daily\"]\n }"), `4:2: parameterized and periodic contradict each other; a periodic job can be dispatched, too, as it is`},
		{inTask("dispatch_payload {\n file = \"x\"\n }"), `3:3: dispatch_payload is for the tasks of a parameterized job: no payload ever comes to this one`},
		{inTask("type = \"batch\"\n parameterized {}\n dispatch_payload {}"), `5:2: file is missing: say what the file with the payload is to be called`},
		{inTask("type = \"batch\"\n parameterized {}\n dispatch_payload {\n file = \"../x\"\n }"), `6:9: file "../x" is not the name of a file: give one without a directory`},
		{inTask("type = \"batch\"\n parameterized {\n payload = \"forbidden\"\n }\n dispatch_payload {\n file = \"x\"\n }"), `7:2: dispatch_payload has no meaning where parameterized says payload = "forbidden"`},
		{inTask(`max_run_duration = "1h"`), `3:22: max_run_duration is for batch and sysbatch jobs: instances of a service job run until they are stopped`},
		{inTask("type = \"batch\"\n max_run_duration = \"0s\""), `4:21: max_run_duration 0s is not from 1s up; leave it out for no bound`},
		{inTask("type = \"batch\"\n max_run_duration = \"-1h\""), `4:21: max_run_duration -1h0m0s is not from 1s to 8760h0m0s`},
		{inTask("type = \"system\"\n count = 1"), `4:10: count has no meaning in a system job: it has one instance on every node; leave it out`},
		{inTask("type = \"sysbatch\"\n count = 3"), `4:10: count has no meaning in a sysbatch job: it has one instance on every node; leave it out`},
		{inTask("type = \"system\"\n scheduler = \"spread\""), `4:14: scheduler has no meaning in a system job: nothing is chosen where every node has an instance`},
		{inTask("type = \"system\"\n affinity {\n attribute = \"node.name\"\n value = \"n1\"\n }"), `4:2: affinity has no meaning in a system job`},
		{inTask("disconnect {\n }"), `3:3: disconnect says nothing: give lost_after, stop_on_client_after or both`},
		{inTask("disconnect {\n lost_after = \"0s\"\n }"), `4:15: lost_after 0s is no time; leave it out`},
		{inTask("disconnect {\n lost_after = \"-1h\"\n }"), `4:15: lost_after -1h0m0s is not from 1s to a year`},
		{inTask("disconnect {\n stop_on_client_after = \"1m\"\n replace = true\n }"), `5:2: replace has no meaning without lost_after`},
		{inTask("disconnect {\n stop_on_client_after = \"1m\"\n lost_after = \"1m\"\n }"), `4:25: stop_on_client_after 1m is not below lost_after 1m`},
		{inTask("disconnect {\n lost_after = \"1m\"\n reconcile = \"best_score\"\n }"), `5:14: reconcile "best_score" is none of keep_original`},
		{inTask("lost_after = \"1m\""), `3:3: unknown key "lost_after"; it belongs into disconnect { ... }`},
		{inTask("type = \"system\"\n disconnect {\n lost_after = \"1m\"\n replace = true\n }"), `6:2: replace has no meaning in a system job`},
		{inTask(`scheduler = "best"`), `3:15: scheduler "best" is none of binpack`},
		{inTask(`datacenters = [""]`), `3:17: `},
		// names in expressions
		{inTask(`user = foo`), `3:10: foo is not known; a text stands in quotes`},
		{inTask(`user = vra.x`), `3:10: vra is not known; did you mean "var"?`},
		{inTask(`user = "${nod.name}"`), `3:13: nod is not known; did you mean "node"?`},
		{inTask(`user = "${HOME}"`), `3:13: HOME is not known`},
		{inTask(`user = "${node.nam}"`), `3:13: nodes have no "node.nam"`},
		{inTask(`user = "${node["name"]}"`), `3:13: a name that is known only when an instance starts takes no [ ]`},
		{inTask(`user = "${CUBE_PORT_http.x}"`), `3:13: CUBE_PORT_http has no parts; write ${CUBE_PORT_http}`},
		{inTask(`user = upper("${node.name}")`), `3:19: node.name is known only when an instance starts: it cannot be compared or changed here`},
		{inTask(`user = "${node.name}" == "x" ? "a" : "b"`), `3:13: node.name is known only when`},
		{inTask(`meta = { a = "${node.name}" }`), `3:10: this must be known when the file is read`},
		{inTask(`user = var.x`), `3:10: there is no variable "x"; declare it: variable "x" {}`},
		{inTask(`user = local.x`), `3:10: there is no local "x"`},
		{inTask(`user = var`), `3:10: var takes a name, as in var.NAME`},
		{inTask(`user = file("/etc/passwd")`), `3:10: there is no function "file"; there are join, jsonencode`},
		{inTask(`user = uper("a")`), `3:10: there is no function "uper"; did you mean "upper"?`},
		{inTask(`args = [for x in ["a"] : x]`), `3:10: for expressions are not supported`},
		{inTask(`args = [["a"]][*]`), `3:10: [*] is not supported`},
		{inTask(`user = "%{ if true }x%{ endif }"`), `3:11: %{ is not supported in a task file; write %%{ for a literal one`},
		// variables and locals
		{"variable \"a\" {}\n" + inTask(""), `1:10: variable "a" has no value; give one with -var a=..., in a -var-file, or in the environment as CUBE_VAR_a`},
		{"variable \"a\" { defualt = 1 }\n" + inTask(""), `1:16: unknown key "defualt"; did you mean "default"?`},
		{"variable \"a\" { type = \"string\" }\n" + inTask(""), `1:23: a type is string, number, bool`},
		{"variable \"a\" {\n type = number\n default = \"x\"\n}\n" + inTask(""), `3:12: default is text, but the variable's type is a number: it is text`},
		{"variable \"a\" { default = null }\n" + inTask(""), `1:26: default is null`},
		{"variable \"a\" { default = var.a }\n" + inTask(""), `1:26: a default is made from nothing else, such as var.a`},
		{"variable \"a\" { default = [[1]] }\n" + inTask(""), `1:26: a variable holds text`},
		{"variable \"1a\" {}\n" + inTask(""), `1:10: "1a" is not a name for a variable`},
		{"locals { a = local.b }\n" + inTask(""), `1:14: there is no local "b"`},
		{"locals {\n  a = local.b\n  b = local.a\n}\n" + inTask(""), `3:7: local.a is made from itself`},
		{"locals { a = 1 }\nlocals { a = 2 }\n" + inTask(""), `2:10: local "a" is there already, at f.hcl:1:10`},
		{"locals \"x\" { a = 1 }\n" + inTask(""), `1:8: locals takes no name`},
		// text
		{"task \"t\" {\n  image = \"i\x00\"\n}", `2:13: the text holds a NUL character`},
		{"task \"t\" {\n  image = \"\xff\"\n}", `2:12: the text holds bytes that are not UTF-8`},
		{"\xef\xbb\xbftask \"t\" { image = \"i\" }", `1:1: the text begins with a byte order mark`},
		{"\xff\xfet\x00a\x00", `1:1: the text holds bytes that are not UTF-8`},
		{`task "t" { image = "i"`, `1:10: { is never closed`},
		{`task "t" { image = ("i"] }`, `1:24: ] closes nothing that is open here`},
		{"task \"t\" {\n  image = <<EOT\nfoo\n", `4:1: unterminated template string`},
		{"task \"t\" { /* image", `1:`},
	}
	for _, c := range cases {
		_, err := Parse([]byte(c.src), "f.hcl", nil)
		if api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q: %v", c.src, err)
			continue
		}
		line, rest, _ := strings.Cut(err.Error(), "\n")
		if !strings.HasPrefix(line, "f.hcl:"+c.want) {
			t.Errorf("%s\nsays %s\nwant f.hcl:%s", c.src, line, c.want)
		}
		if strings.Contains(rest, "f.hcl:") {
			t.Errorf("%s\none fault is said as several:\n%s", c.src, err)
		}
	}
}

// TestGivenVariables holds values from outside to the types that the file declares.
func TestGivenVariables(t *testing.T) {
	cases := []struct{ kind, value, want string }{
		{"number", "12", ""},
		{"number", "-1.5", ""},
		{"number", "1e9", "is not a number"},
		{"number", "0x10", "is not a number"},
		{"number", "1-1", "is not a number"},
		{"number", "", "is not a number"},
		{"number", strings.Repeat("9", 16), "16 digits"},
		{"bool", "true", ""},
		{"bool", "1", "neither true nor false"},
		{"list(string)", `["a", "b"] # two`, ""},
		{"list(string)", `[1, true]`, ""},
		{"list(string)", `a,b`, `write it as in a task file`},
		{"list(number)", `["x"]`, "is not a list of numbers"},
		{"list(number)", `["1e9999999"]`, "it holds text"},
		{"list(string)", `[var.v]`, "write it as"},
		{"list(string)", "[\"a\"]\n)\nx = (1", "write it as"},
		{"list(string)", strings.Repeat("[", 1000), "write it as"},
		{"list(string)", "null", "null"},
		{"map(number)", `{a = 1}`, ""},
		{"map(number)", `{a = "x"}`, "is not a map of numbers"},
		{"string", "any ${thing} \"at\" all", ""},
		{"string", "\x00", "not text"},
	}
	for _, c := range cases {
		src := fmt.Sprintf("variable \"v\" { type = %s }\n", c.kind) + inTask("")
		_, err := Parse([]byte(src), "f.hcl", map[string]string{"v": c.value})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "f.hcl:1:10: ")) {
			t.Errorf("%s = %q: %v; want %q", c.kind, c.value, err, c.want)
		}
	}
	if _, err := Parse([]byte(inTask("")), "f.hcl", map[string]string{"x": "1"}); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), `declares no variable "x"`) {
		t.Errorf("a variable nobody declared: %v", err)
	}
}

// TestSecretsStayOutOfMessages gives each kind of wrong value for a sensitive variable.
func TestSecretsStayOutOfMessages(t *testing.T) {
	const secret = "hunter2"
	for _, kind := range []string{"number", "bool", "list(string)", "map(number)"} {
		src := fmt.Sprintf("variable \"v\" {\n  type = %s\n  sensitive = true\n}\n", kind) + inTask("")
		_, err := Parse([]byte(src), "f.hcl", map[string]string{"v": secret})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, use := range []string{`image = var.v`, `args = [var.v]`, `count = var.v`, `count = -var.v`, `user = local.x[var.v]`, `env = { A = local.x[var.v] }`,
		`env = { A = [var.v] }`, `kill_timeout = var.v`, `port "a" { to = var.v }`, `env = { (var.v) = "x" }`, `env = var.v`} {
		src := "variable \"v\" { sensitive = true }\nlocals { x = {} }\ntask \"t\" {\n  " + use + "\n}"
		_, err := Parse([]byte(src), "f.hcl", map[string]string{"v": secret})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", use, err)
		}
	}
}
