# Converted from queue. Comments say what a person has to decide.

job "shop" {
  task "rabbitmq" {
    image = "rabbitmq:4-management"

    port "amqp" {
      static = 5672
      to     = 5672
    }

    port "port-15672" {
      static = 15672
      to     = 15672
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    check "health" {
      type                     = "exec"
      command                  = ["/bin/sh", "-c", "rabbitmq-diagnostics -q ping"]
      interval                 = "10s"
      timeout                  = "5s"
      failures_before_critical = 5
    }

    config {
      hostname = "rabbit"
    }
  }

  # ./data at /data is left out: what is written there is lost with the container; put files into the image, or
  # name the directory in the node's configuration and ask for it with volume
  task "consumer" {
    image = "shop/consumer:9"

    env {
      BROKER_HOST   = "rabbitmq"
      BROKER_URL    = "amqp://guest:guest@rabbitmq:5672/"
      CONSUMER_NAME = "consumer:1"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    depends_on "rabbitmq" {}

    config {
      tmpfs = ["/cache"]
    }
  }
}
