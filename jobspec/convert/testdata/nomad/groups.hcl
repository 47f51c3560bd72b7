# Converted from groups. Comments say what a person has to decide.

job "stack" {
  task "app" {
    image = "app:1"
    count = 2

    sidecar "exporter" {
      image = "exporter:1"

      resources {
        cpu    = 2
        memory = 64
      }
    }

    port "http" {}

    port "metrics" {
      to = 9100
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    volume "app-data" {
      destination = "/data"
      access      = "multi-writer"
    }

    check "app-http" {
      type     = "http"
      port     = "http"
      path     = "/"
      interval = "10s"
      timeout  = "2s"
    }
  }

  task "worker-app" {
    image = "app:1"

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    meta {
      tier = "worker"
    }
  }
}
