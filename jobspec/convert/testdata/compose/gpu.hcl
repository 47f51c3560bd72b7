# Converted from gpu. Comments say what a person has to decide.

variable "UI_PORT" {
  type    = number
  default = 3000
}

job "shop" {
  task "llm" {
    image = "ollama/ollama:0.11.0"

    port "port-11434" {
      static = 11434
      to     = 11434
    }

    resources {
      memory = "16GiB"

      device "gpu" {
        count = 2
      }
    }

    constraint {
      attribute = "attr.cpu.arch"
      value     = "amd64"
    }
  }

  task "webui" {
    image = "open-webui:0.6"
    # it is not started by itself; set count, or use 'cube task scale'
    count = 0

    port "http" {
      static = var.UI_PORT
      to     = 8080
    }

    env {
      OLLAMA_BASE_URL = "http://llm:11434"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    config {
      extra_hosts = ["host.docker.internal:host-gateway", "cache:10.0.0.7"]
    }
  }

  task "trainer" {
    image = "trainer:1"

    # memory: 128 MiB, a limit, unless it is given here
    resources {
      # Cube gives a number of devices, not all; write count
      device "gpu" {}
    }
  }
}
