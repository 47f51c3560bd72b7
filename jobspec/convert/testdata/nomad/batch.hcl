# Converted from batch. Comments say what a person has to decide.

job "nightly" {
  type     = "batch"
  priority = 30

  periodic {
    crons            = ["0 3 * * *"]
    prohibit_overlap = true
  }

  task "report" {
    image = "shop/report:3"
    args  = ["report --day=$${DAY} > /out"]

    resources {
      # 2500 MHz, at 2500 MHz a core
      cpu    = 1
      memory = 1024
      disk   = 500

      device "gpu" {
        count = 1

        constraint {
          attribute = "device.model"
          value     = "Tesla T4"
        }
      }
    }

    restart {
      attempts  = 3
      interval  = "1h"
      delay     = "10s"
      max_delay = "10s"
      mode      = "fail"
    }

    config {
      entrypoint = ["/bin/sh", "-c"]
    }
  }
}
