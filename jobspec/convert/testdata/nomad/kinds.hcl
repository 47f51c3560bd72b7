# Converted from kinds. Comments say what a person has to decide.

job "sweep" {
  type = "sysbatch"

  # the volume shared at /shared is left out: Cube has volumes on nodes only; what is written there is lost with
  # the container
  # the volume nowhere at /nowhere is left out: its group claims none of that name; what is written there is lost
  # with the container
  task "sweep" {
    image            = "shop/sweep:4"
    max_run_duration = "30m"

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
      disk   = 500
    }

    volume "certs" {
      destination = "/certs"
      read_only   = true
    }

    volume "sweep-state" {
      destination = "/state"
    }

    ephemeral_disk {
      destination = "/alloc/data"
      sticky      = true
    }

    reschedule {
      unlimited = true
      delay     = "1m"
    }

    migrate {
      max_parallel     = 2
      min_healthy_time = "5s"
    }
  }
}
