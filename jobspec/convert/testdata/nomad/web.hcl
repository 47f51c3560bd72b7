# Converted from web. Comments say what a person has to decide.

variable "image_tag" {
  description = "release"
  default     = "1.4.2"
}

variable "replicas" {
  type    = number
  default = 3
}

variable "db_password" {
  sensitive = true
}

locals {
  registry = "registry.example.org/shop"
  image    = "${local.registry}/web:${var.image_tag}"
}

job "shop-web" {
  datacenters = ["dc1", "dc2"]
  priority    = 70

  meta {
    owner = "shop"
  }

  # volumes are left out: what is written there is lost with the container
  task "server" {
    image          = local.image
    count          = var.replicas
    command        = "serve"
    args           = ["-listen", ":${CUBE_PORT_http}", "-node", "${node.name}", "-dir", "$${NOMAD_TASK_DIR}/www"]
    user           = "1000"
    shutdown_delay = "5s"
    kill_signal    = "SIGINT"
    kill_timeout   = "30s"

    port "http" {
      static = 8080
      to     = 80
    }

    port "admin_ui" {}

    port "high" {}

    env {
      DB_URL   = "postgres://shop:${var.db_password}@db/shop"
      ADDRESS  = "${CUBE_ADDR_admin_ui}"
      INDEX    = "${CUBE_ALLOC_INDEX}"
      REGION   = "$${NOMAD_REGION}"
      UPPER    = upper(var.image_tag)
      RACK     = "${meta.rack}"
      HOSTNAME = "${node.name}"
    }

    resources {
      # 1000 MHz, at 2500 MHz a core
      cpu    = 0.4
      memory = 512
    }

    reschedule {
      delay = "30s"
    }

    check "web-http" {
      type          = "http"
      port          = "http"
      path          = "/health"
      method        = "HEAD"
      interval      = "5s"
      timeout       = "1s"
      start_period  = "30s"
      restart_after = 3

      headers {
        Host = "shop.example.org"
      }
    }

    constraint {
      attribute = "attr.kernel.name"
      value     = "linux"
    }

    constraint {
      attribute = "meta.rack"
      operator  = "is_set"
    }

    constraint {
      distinct_hosts = true
    }

    spread {
      attribute = "node.datacenter"
      weight    = 80

      target "dc1" {
        percent = 70
      }
    }

    config {
      tmpfs         = ["/tmp"]
      log_max_files = 3
      log_max_size  = "20MiB"
      read_only     = true

      labels {
        team = "shop"
      }
    }
  }
}
