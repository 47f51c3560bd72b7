# Converted from oldstyle. Comments say what a person has to decide.

job "legacy" {
  datacenters = ["dc1"]

  task "web" {
    image = "registry.example.org/web:1"

    port "http" {}

    resources {
      # 100 MHz, at 2500 MHz a core
      cpu    = 0.04
      memory = 64
    }

    check "g-script" {
      type     = "exec"
      command  = ["/bin/check", "-q"]
      interval = "30s"
      timeout  = "5s"
    }

    check "g-grpc" {
      type     = "grpc"
      port     = "http"
      interval = "30s"
      timeout  = "5s"
    }
  }
}
