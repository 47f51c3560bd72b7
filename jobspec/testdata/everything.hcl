# Every field of a task.
task "web" {
  datacenters = ["paris", "lyon"]
  type        = "batch"
  priority    = 70
  scheduler   = "spread"

  count    = 0
  driver   = "docker"
  image    = "cube/hello:1"
  command  = "/hello"
  args     = ["-listen", ":8080", "-lines", 3]
  user     = "nobody:nogroup"
  work_dir = "/srv"

  env = {
    PLAIN  = "text"
    NUMBER = 8080
    "a.b"  = true
  }

  port "http" {
    to     = 8080
    static = 80
  }
  port "admin" {}

  resources {
    cpu    = "250m"
    memory = "1GiB"
    disk   = 300

    device "nic" {
      share = 0.125
    }
    device "gpu" {
      count = 2
      constraint {
        attribute = "device.model"
        operator  = "regexp"
        value     = "^(A100|H100)"
      }
      constraint {
        attribute = "device.memory_gib"
        operator  = ">="
        value     = 40
      }
    }
  }

  ephemeral_disk {
    destination = "/scratch"
  }

  prestart "migrate" {
    image   = "search-tools:9"
    args    = ["migrate", "${CUBE_JOB_NAME}"]
    timeout = "5m"
    volumes = ["data"]
  }

  prestart "check" {
    image = "search-tools:9"
  }

  sidecar "proxy" {
    image = "proxy:3"
    user  = "1000"
    env = {
      UPSTREAM = "127.0.0.1:9200"
    }

    resources {
      cpu    = 0.05
      memory = "32MiB"
    }

    config {
      read_only = true
    }
  }

  poststop "tidy" {
    image   = "search-tools:9"
    command = "tidy"
  }

  volume "data" {
    source      = "web-data"
    destination = "/var/lib/web"
    access      = "multi-writer"
  }
  volume "assets" {
    destination = "/assets"
    read_only   = true
  }

  restart {
    attempts  = 3
    interval  = "1m"
    delay     = "500ms"
    max_delay = "10s"
    mode      = "fail"
  }

  reschedule {
    attempts       = 5
    interval       = "2h"
    delay          = "20s"
    delay_function = "fibonacci"
    max_delay      = "5m"
  }

  check "ready" {
    type    = "http"
    port    = "http"
    path    = "/health?full=1"
    method  = "post"
    headers = { Host = "shop.example", X-Try = 1 }
    body    = "are you well?"

    interval     = "5s"
    timeout      = "500ms"
    start_period = "1m"

    success_before_passing   = 2
    failures_before_critical = 4
    restart_after            = 8
  }
  check "alive" {
    type     = "tcp"
    port     = "admin"
    interval = "1s"
  }

  check "works" {
    type    = "exec"
    command = ["/bin/probe", "-q"]
  }

  update {
    max_parallel      = 2
    min_healthy_time  = "15s"
    healthy_deadline  = "2m"
    progress_deadline = "20m"
  }

  constraint {
    attribute = "attr.kernel.name"
    value     = "linux"
  }
  constraint {
    attribute = "${node.datacenter}"
    operator  = "!="
    value     = "nice"
  }
  constraint {
    attribute = "attr.kernel.version"
    operator  = "version"
    value     = ">= 5.10, < 7"
  }
  constraint {
    attribute = "attr.cube.version"
    operator  = "semver"
    value     = ">= 0.1.0"
  }
  constraint {
    attribute = "meta.rack"
    operator  = "is_set"
  }
  constraint {
    distinct_hosts = true
  }

  affinity {
    attribute = "meta.disk"
    value     = "ssd"
  }
  affinity {
    attribute = "meta.rack"
    operator  = "regexp"
    value     = "^r[12]$"
    weight    = -20
  }

  spread {
    attribute = "node.datacenter"
    weight    = 100
    target "paris" {
      percent = 70
    }
    target "lyon" {
      percent = 30
    }
  }

  migrate {
    max_parallel = 2
    order        = "stop-first"
  }

  disconnect {
    lost_after           = "20m"
    replace              = true
    reconcile            = "longest_running"
    stop_on_client_after = "2m"
  }

  max_run_duration = "1h30m"
  shutdown_delay   = "10s"
  kill_timeout     = "30s"
  kill_signal      = "int"

  meta {
    owner = "shop"
    tier  = 2
  }

  config {
    cap_drop      = ["NET_RAW"]
    hostname      = "web-${node.name}"
    log_max_files = 3
    log_max_size  = "10MiB"
    read_only     = true
    labels {
      team = "shop"
    }
  }
}
