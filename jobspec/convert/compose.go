package convert

import (
	"cmp"
	"slices"
	"strings"

	"cube/api"
)

// compose converts one Compose file.
type compose struct {
	conversion
	variables map[string]*composeVariable
	order     []*composeVariable // as they are met
	services  []*service
	unlimited []string       // tasks with no limit of memory
	users     map[string]int // mounts of each source of volumes
}

// service is one of a Compose file and the task it becomes.
type service struct {
	*compose
	name  string
	path  string // services.NAME, for findings
	body  *tree
	task  *node
	ports []port
	kind  api.JobType
	once  bool // it runs to completion
}

// Compose converts a Compose file: its services become the tasks of one job, those that run to completion of a batch job
// each. Variables become variables of the task file, anchors and merge keys are resolved, extensions (x-) are left out.
// An error, with CodeInvalid, says that nothing usable came out.
func Compose(src []byte, o Options) (*Result, error) {
	root, second, err := readYAML(src, o.FileName)
	if err != nil {
		return nil, err
	}
	services := root.get("services")
	if !root.isMap() || services == nil || !services.isMap() || len(services.entries) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "%s: it holds no services, as a Compose file does", o.FileName)
	}
	c := &compose{conversion: conversion{Options: o, draft: &node{isBlock: true}}, variables: map[string]*composeVariable{}, users: map[string]int{}}
	services.scalars(func(t *tree) { c.learn(t.text, t.line, 0) })
	c.topLevel(root)
	if second > 0 {
		c.find(second, "document", "left out: only the first document of a file is converted", "convert what 'docker compose config' prints")
	}
	c.draft.note("Converted from " + o.FileName + ". Comments say what a person has to decide.")
	c.readServices(root, services)
	return c.finish(c.declare())
}

// topLevel looks at what stands beside the services.
func (c *compose) topLevel(root *tree) {
	for _, e := range root.entries {
		switch {
		case slices.Contains([]string{"services", "name", "version"}, e.key) || strings.HasPrefix(e.key, "x-"):
		case e.key == "networks":
			c.eachOf(e, func(name string, line int, _ *tree) {
				c.find(line, "networks."+short(name), "left out: Cube has no networks of its own", "tasks reach each other through ports of their nodes")
			})
		case e.key == "volumes":
			c.eachOf(e, func(name string, line int, t *tree) {
				for _, option := range t.entries {
					if !strings.HasPrefix(option.key, "x-") && option.key != "name" && option.key != "labels" && !(option.key == "driver" && option.value.text == "local") {
						c.find(option.line, "volumes."+short(name+"."+option.key), "left out: Cube makes no volumes of other systems", "")
					}
				}
			})
		case e.key == "secrets" || e.key == "configs":
			c.eachOf(e, func(name string, line int, _ *tree) {
				c.find(line, e.key+"."+short(name), "left out: Cube has no "+e.key, "put the value into env, from a variable with sensitive = true where it is a secret, or the file into the image")
			})
		case e.key == "include":
			c.find(e.line, "include", "left out: no other file is read", "convert what 'docker compose config' prints")
		default:
			c.find(e.line, short(e.key), "left out: it is not known", "")
		}
	}
}

func (c *compose) eachOf(e entry, f func(name string, line int, t *tree)) {
	if !e.value.isMap() {
		return
	}
	for _, inner := range e.value.entries {
		f(inner.key, inner.line, inner.value)
	}
}

func (c *compose) readServices(root, services *tree) {
	jobName := cmp.Or(c.Name, "app")
	if t := root.get("name"); t != nil {
		if s, ok := c.plain(t, "name"); ok {
			jobName = s
		}
	}
	jobs, tasks := names{}, names{}
	jobName = jobs.take(dnsLabel(jobName, "app"))
	job := &node{key: "job", label: jobName, origin: root.line, isBlock: true, what: "name"}
	finished := completed(services)
	c.countUsers(services)
	for _, e := range services.entries {
		path := "services." + short(e.key)
		if !e.value.isMap() {
			c.find(e.line, path, "left out: it is empty", "")
			continue
		}
		name := tasks.take(dnsLabel(e.key, "task"))
		if name != e.key {
			c.find(e.line, path, "called "+name, "names have lower-case letters, digits and hyphens")
		}
		s := &service{compose: c, name: e.key, path: path, body: e.value}
		s.kind = kindOf(e.value, finished[e.key])
		s.once = s.kind.Completes()
		s.task = &node{key: "task", label: name, origin: e.line, isBlock: true, what: path}
		if s.kind != api.JobService {
			own := c.draft.block("job", jobs.take(dnsLabel(jobName+"-"+name, name)), e.line)
			own.what = path
			own.attr("type", quote(string(s.kind)), e.line)
			own.children = append(own.children, s.task)
			why := "It runs to completion, so it is a job of its own."
			if s.kind == api.JobSystem {
				why = "It runs on every node, so it is a job of its own."
			}
			own.note(why)
		} else {
			job.children = append(job.children, s.task)
		}
		c.services = append(c.services, s)
	}
	if len(job.children) > 0 {
		c.draft.children = append([]*node{job}, c.draft.children...)
	}
	for _, s := range c.services {
		s.read()
	}
	if len(c.unlimited) > 0 {
		c.find(services.line, "services", strings.Join(c.unlimited, ", ")+": no limit of memory is given; Cube's default is 128 MiB, and a container that needs more is killed",
			"give each what it needs: resources { memory = ... }")
	}
}

// completed are the services that another one waits for to complete.
func completed(services *tree) map[string]bool {
	out := map[string]bool{}
	for _, e := range services.entries {
		if on := e.value.get("depends_on"); on != nil {
			for _, d := range on.entries {
				if t := d.value.get("condition"); t != nil && t.text == "service_completed_successfully" {
					out[d.key] = true
				}
			}
		}
	}
	return out
}

// kindOf is the type of job that a service is of, by its mode and by whether another one waits for it to complete.
func kindOf(t *tree, completes bool) api.JobType {
	switch mode := t.get("deploy").get("mode").scalar(); {
	case mode == "global-job", mode == "global" && completes:
		return api.JobSysbatch
	case mode == "global":
		return api.JobSystem
	case mode == "replicated-job" || completes:
		return api.JobBatch
	}
	return api.JobService
}

// find records a finding about a key of the service.
func (s *service) find(line int, key, why, instead string) {
	s.compose.find(line, s.path+"."+key, why, instead)
}

// decide records one that the task file shows too.
func (s *service) decide(n *node, line int, key, why, instead string) {
	s.compose.decide(n, line, s.path+"."+key, why, instead)
}

// read converts the service, key by key in the order in which a task file says things.
func (s *service) read() {
	handlers := s.handlers()
	for _, h := range handlers {
		for _, e := range s.body.entries {
			switch {
			case e.key != h.key || e.value.isNull() && e.key != "command" && e.key != "entrypoint":
			case e.value.shapedLike(h.shapes):
				h.read(e)
			default:
				s.find(e.line, e.key, "left out: "+expected(h.shapes)+" is expected", "")
			}
		}
	}
	for _, e := range s.body.entries {
		known := slices.ContainsFunc(handlers, func(h handler) bool { return h.key == e.key })
		switch hint, refused := refusedKeys()[e.key]; {
		case known || strings.HasPrefix(e.key, "x-") || e.value.isNull() || refused && e.value.saysNothing():
		case refused:
			s.find(e.line, e.key, "left out", hint)
		default:
			s.find(e.line, short(e.key), "left out: it is not known", "")
		}
	}
	s.writePorts()
	s.namesOfOthers()
	if r := s.task.find("resources"); r == nil || r.find("memory") == nil {
		s.task.one("resources", s.task.origin).note("memory: 128 MiB, a limit, unless it is given here")
		s.unlimited = append(s.unlimited, s.task.label)
	}
}

// handler converts one key of a service, of a value of the shapes that the key may have: s a plain value, l a list, m a mapping.
type handler struct {
	key, shapes string
	read        func(entry)
}

// shapedLike reports whether a value is of one of these shapes; what is empty is of any.
func (t *tree) shapedLike(shapes string) bool {
	shape := "s"
	switch {
	case t.isNull():
		return true
	case t.isList():
		shape = "l"
	case t.isMap():
		shape = "m"
	}
	return strings.Contains(shapes, shape)
}

// expected names shapes for people.
func expected(shapes string) string {
	var list []string
	for _, shape := range shapes {
		list = append(list, map[rune]string{'s': "a plain value", 'l': "a list", 'm': "a mapping"}[shape])
	}
	return strings.Join(list, " or ")
}

// saysNothing reports whether a value is what Compose takes where a key is not given.
func (t *tree) saysNothing() bool {
	return t.text == "false" && t.isScalar() || !t.isScalar() && len(t.items)+len(t.entries) == 0
}

// handlers are in the order in which what they write stands in the task.
func (s *service) handlers() []handler {
	return []handler{
		{"build", "sm", s.readBuild}, {"image", "s", s.readImage}, {"profiles", "l", s.readProfiles}, {"scale", "s", s.readScale},
		{"entrypoint", "sl", s.readEntrypoint}, {"command", "sl", s.readCommand},
		{"user", "s", s.readText("user")}, {"working_dir", "s", s.readText("work_dir")},
		{"stop_signal", "s", s.readSignal}, {"stop_grace_period", "s", s.readGrace},
		{"environment", "lm", s.readEnvironment}, {"env_file", "sl", s.readEnvFile},
		{"ports", "l", s.readPorts}, {"expose", "l", s.readExpose},
		{"cpus", "s", s.readCPU}, {"mem_limit", "s", s.readMemory}, {"mem_reservation", "s", s.readReservation},
		{"restart", "s", s.readRestart}, {"deploy", "m", s.readDeploy}, {"healthcheck", "m", s.readHealth}, {"platform", "s", s.readPlatform},
		{"hostname", "s", s.readOption("hostname")}, {"read_only", "s", s.readReadOnly}, {"cap_drop", "sl", s.readOptionList("cap_drop")},
		{"tmpfs", "sl", s.readOptionList("tmpfs")}, {"extra_hosts", "lm", s.readHosts}, {"labels", "lm", s.readLabels},
		{"pull_policy", "s", s.readPull}, {"logging", "m", s.readLogging}, {"volumes", "l", s.readVolumes}, {"depends_on", "lm", s.readDependsOn},
		{"networks", "lm", s.readNetworks}, {"network_mode", "s", s.readNetworkMode},
		{"container_name", "s", s.readContainerName}, {"init", "s", s.readInit}, {"gpus", "sl", s.readGPUs},
	}
}

// refusedKeys are keys that Cube has nothing for, with what to do instead.
func refusedKeys() map[string]string {
	const privileges = "Cube grants no more privileges than a container has; do without"
	const namespaces = "a container of Cube shares no namespace with others"
	const kernel = "Cube leaves the engine's value; set it in the image or on the machine"
	return map[string]string{
		"annotations": "note it in meta", "attach": "use 'cube logs'", "blkio_config": kernel, "cap_add": privileges, "cgroup": namespaces,
		"cgroup_parent": namespaces, "configs": "put the file into the image, or its text into env", "cpu_count": "use cpus", "cpu_percent": "use cpus",
		"cpu_period": "use cpus", "cpu_quota": "use cpus", "cpu_rt_period": kernel, "cpu_rt_runtime": kernel, "cpu_shares": "use cpus",
		"cpuset": "say how many cores it needs with resources { cpu = ... }", "credential_spec": "Cube runs no Windows containers", "develop": "Cube does not watch source files",
		"device_cgroup_rules": privileges, "devices": "name the device in the node's configuration and ask for it with device \"...\" in resources",
		"dns": kernel, "dns_opt": kernel, "dns_search": kernel, "domainname": "use hostname", "extends": "convert what 'docker compose config' prints",
		"external_links": "give the address in env", "group_add": "use user = \"user:group\"", "ipc": namespaces, "isolation": "Cube runs no Windows containers",
		"label_file": "write the labels into config { labels { ... } }", "links": "give the address in env", "mac_address": namespaces, "memswap_limit": "containers get no swap",
		"mem_swappiness": "containers get no swap", "models": "run the model as a task", "oom_kill_disable": kernel, "oom_score_adj": kernel, "pid": namespaces,
		"pids_limit": "a container has at most 4,096 processes", "post_start": "run it in the program's own start", "pre_stop": "let the program do it on kill_signal",
		"privileged": privileges, "provider": "Cube runs containers", "runtime": "Cube uses the engine's default runtime",
		"secrets": "put the value into env, from a variable with sensitive = true", "security_opt": "containers run with no-new-privileges and the default seccomp profile",
		"shm_size": `use config { tmpfs = ["/dev/shm:size=..."] }`, "stdin_open": "use 'cube task exec -it'", "storage_opt": kernel, "sysctls": kernel,
		"tty": "use 'cube task exec -it'", "ulimits": kernel, "userns_mode": namespaces, "uts": namespaces, "use_api_socket": privileges,
		"volumes_from": "name each volume", "volume_driver": "Cube has volumes on nodes only",
	}
}
