# Converted from swarm. Comments say what a person has to decide.

job "shop" {
  task "api" {
    image = "registry.example.org/api:3"
    count = 6

    port "http" {
      static = 80
      to     = 8080
    }

    port "port-9000" {
      static = 8000
      to     = 9000
    }

    port "port-9001" {
      static = 8001
      to     = 9001
    }

    port "port-9002" {
      static = 8002
      to     = 9002
    }

    port "port-25000" {
      to = 25000
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    restart {
      attempts = 3
      interval = "120s"
      delay    = "5s"
      mode     = "fail"
    }

    update {
      max_parallel     = 2
      order            = "start-first"
      min_healthy_time = "30s"
      auto_revert      = true
    }

    constraint {
      attribute = "meta.zone"
      value     = "eu"
    }

    constraint {
      attribute = "attr.cpu.arch"
      operator  = "!="
      value     = "arm64"
    }

    constraint {
      distinct_hosts = true
    }

    spread {
      attribute = "meta.rack"
    }

    meta {
      owner = "team-api"
      tier  = "1"
    }
  }
}

# It runs to completion, so it is a job of its own.
job "shop-report" {
  type = "batch"

  task "report" {
    image = "registry.example.org/report:3"
    count = 3

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    restart {
      attempts = 0
      mode     = "fail"
    }
  }
}
