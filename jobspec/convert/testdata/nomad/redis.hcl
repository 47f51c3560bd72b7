# Converted from redis. Comments say what a person has to decide.

job "example" {
  datacenters = ["dc1"]

  task "redis" {
    image = "redis:7"

    port "db" {
      to = 6379
    }

    resources {
      # 500 MHz, at 2500 MHz a core
      cpu    = 0.2
      memory = 256
      disk   = 300
    }

    restart {
      attempts  = 2
      interval  = "30m"
      delay     = "15s"
      max_delay = "15s"
      mode      = "fail"
    }

    update {
      max_parallel      = 1
      min_healthy_time  = "10s"
      healthy_deadline  = "3m"
      progress_deadline = "10m"
      canary            = 0
      auto_revert       = false
    }

    migrate {
      max_parallel = 1
    }

    check "alive" {
      type     = "tcp"
      port     = "db"
      interval = "10s"
      timeout  = "2s"
    }
  }
}
