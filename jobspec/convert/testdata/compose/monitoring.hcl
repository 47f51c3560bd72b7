# Converted from monitoring. Comments say what a person has to decide.

variable "ADMIN_USER" {
  default = "admin"
}

variable "GF_SECURITY_ADMIN_PASSWORD" {
  sensitive = true
}

job "shop" {
  task "prometheus" {
    image   = "prom/prometheus:v3.5.0"
    command = "--config.file=/etc/prometheus/prometheus.yml"
    args    = ["--storage.tsdb.retention.time=15d", "--web.enable-lifecycle"]
    user    = "65534:65534"

    port "port-9090" {
      static = 9090
      to     = 9090
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    check "health" {
      type     = "http"
      port     = "port-9090"
      path     = "/-/healthy"
      interval = "30s"
      timeout  = "30s"
    }

    config {
      labels = {
        "org.label-schema.group" = "monitoring"
      }
    }
  }

  task "grafana" {
    image = "grafana/grafana:12.1.0"

    port "web" {
      static = 3000
      to     = 3000
    }

    env {
      GF_SECURITY_ADMIN_USER     = var.ADMIN_USER
      GF_SECURITY_ADMIN_PASSWORD = var.GF_SECURITY_ADMIN_PASSWORD
      GF_USERS_ALLOW_SIGN_UP     = "false"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    config {
      log_max_size  = "10MiB"
      log_max_files = 3
    }
  }
}

# It runs on every node, so it is a job of its own.
job "shop-node-exporter" {
  type = "system"

  # / at /rootfs is left out: what is written there is lost with the container; put files into the image, or name
  # the directory in the node's configuration and ask for it with volume
  task "node-exporter" {
    image   = "prom/node-exporter:v1.9.1"
    command = "--path.rootfs=/rootfs"
    args    = ["--collector.filesystem.mount-points-exclude=^/(sys|proc|dev|host|etc)($|/)"]

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }
}
