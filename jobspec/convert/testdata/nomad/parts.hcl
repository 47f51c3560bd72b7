# Converted from parts. Comments say what a person has to decide.

job "shop" {
  task "shop" {
    image = "shop:7"

    prestart "migrate" {
      volumes = ["shop-data"]
      image   = "shop:7"
      args    = ["migrate"]

      resources {
        # 100 MHz, at 2500 MHz a core
        cpu    = 0.04
        memory = 128
      }
    }

    sidecar "proxy" {
      image = "proxy:3"

      resources {
        # what Nomad gives to a task that does not say
        memory = 300
      }

      config {
        cap_drop = ["ALL"]
      }
    }

    poststop "goodbye" {
      image = "shop:7"
      args  = ["goodbye"]
      user  = "nobody"

      env {
        WHERE = "registry"
      }

      resources {
        # what Nomad gives to a task that does not say
        memory = 300
      }
    }

    port "https" {
      to = 8443
    }

    port "metrics" {
      to = 9100
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }

    volume "shop-data" {
      destination = "/data"
      access      = "multi-writer"
    }

    check "proxy-tcp" {
      type     = "tcp"
      port     = "metrics"
      interval = "10s"
      timeout  = "2s"
    }

    constraint {
      attribute = "attr.kernel.name"
      value     = "linux"
    }
  }
}
