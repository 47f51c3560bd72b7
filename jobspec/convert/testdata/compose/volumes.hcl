# Converted from volumes. Comments say what a person has to decide.

job "shop" {
  # /srv/second is left out: what is written there is lost with the container; put files into the image, or name
  # the directory in the node's configuration and ask for it with volume
  task "api" {
    image = "shop/api:3"
    count = 3

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    volume "uploads" {
      destination = "/srv/uploads"
      access      = "multi-writer"
    }

    volume "my-assets" {
      destination = "/srv/assets"
      read_only   = true
    }

    ephemeral_disk {
      destination = "/srv/cache"
      sticky      = true
    }
  }

  # ${DATA} at /data is left out: what is written there is lost with the container; put files into the image, or
  # name the directory in the node's configuration and ask for it with volume
  task "worker" {
    image = "shop/worker:3"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    volume "uploads" {
      destination = "/uploads"
      read_only   = true
    }

    volume "queue" {
      destination = "/queue"
    }

    config {
      tmpfs = ["/tmp"]
    }
  }
}

# It runs on every node, so it is a job of its own.
job "shop-agent" {
  type = "system"

  task "agent" {
    image = "shop/agent:1"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }
}

# It runs to completion, so it is a job of its own.
job "shop-sweep" {
  type = "sysbatch"

  task "sweep" {
    image = "shop/sweep:1"

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }
}
