# Converted from away. Comments say what a person has to decide.

job "edge" {
  task "camera" {
    image = "camera:1"

    disconnect {
      lost_after = "10m"
      replace    = false
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }

  task "relay" {
    image = "relay:1"

    disconnect {
      lost_after = "1h"
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }

  task "sync" {
    image = "sync:1"

    disconnect {
      lost_after = "1h"
      reconcile  = "longest_running"
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }

  task "fenced" {
    image = "fenced:1"

    disconnect {
      stop_on_client_after = "2m"
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }

  task "old" {
    image = "old:1"

    disconnect {
      lost_after = "30m"
      replace    = false
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }

  task "older" {
    image = "older:1"

    disconnect {
      stop_on_client_after = "1m"
    }

    resources {
      # what Nomad gives to a task that does not say
      memory = 300
    }
  }
}
