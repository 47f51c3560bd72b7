# Converted from anchors. Comments say what a person has to decide.

job "shop" {
  task "one" {
    image   = "busybox:1.37"
    command = "sleep"
    args    = ["60"]

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    config {
      log_max_size = "5MiB"

      labels {
        tier  = "back"
        plain = ""
      }
    }
  }

  task "two-words" {
    image = "busybox:1.37"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    config {
      entrypoint   = ["sh", "-c", "echo \"hello world\" && sleep 60"]
      log_max_size = "5MiB"

      labels {
        tier  = "back"
        plain = ""
      }
    }
  }

  task "9lives" {
    image = "busybox:1.37"
    user  = "1000"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    config {
      log_max_size = "5MiB"

      labels {
        tier  = "back"
        plain = ""
      }
    }
  }
}
