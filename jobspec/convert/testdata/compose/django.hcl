# Converted from django. Comments say what a person has to decide.

variable "WORKERS" {
  default = "3"
}

variable "TAG" {
  description = "which release to run"
}

variable "POSTGRES_PASSWORD" {
  default = "dev"
}

variable "WORKER_COUNT" {
  type    = number
  default = 4
}

job "django-shop" {
  task "web" {
    image   = "registry.example.org/shop/web:${var.TAG}"
    count   = 2
    command = "gunicorn"
    args    = ["shop.wsgi", "--bind", "0.0.0.0:8000", "--workers", var.WORKERS]

    # it was published on 127.0.0.1 only; Cube publishes ports on the node's address
    port "http" {
      static = 8000
      to     = 8000
    }

    # no other file is read; write the lines of .env into env, secrets as variables with sensitive = true
    env {
      DATABASE_URL           = "postgres://shop:${var.POSTGRES_PASSWORD}@db:5432/shop"
      REDIS_URL              = "redis://cache:6379/0"
      DJANGO_SETTINGS_MODULE = "shop.settings"
    }

    resources {
      cpu    = 0.25
      memory = "512MiB"
    }

    check "health" {
      type                     = "http"
      port                     = "http"
      path                     = "/healthz/"
      interval                 = "15s"
      timeout                  = "3s"
      start_period             = "40s"
      failures_before_critical = 5
    }

    depends_on "db" {}
  }

  task "worker" {
    image        = "registry.example.org/shop/web:${var.TAG}"
    count        = var.WORKER_COUNT
    command      = "celery"
    args         = ["-A", "shop", "worker", "--loglevel=info"]
    kill_signal  = "SIGINT"
    kill_timeout = "1m30s"

    # no other file is read; write the lines of .env into env, secrets as variables with sensitive = true
    env {
      C_FORCE_ROOT           = "true"
      DATABASE_URL           = "postgres://shop:${var.POSTGRES_PASSWORD}@db:5432/shop"
      REDIS_URL              = "redis://cache:6379/0"
      DJANGO_SETTINGS_MODULE = "shop.settings"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    depends_on "db" {}
  }

  task "db" {
    image = "postgres:17"

    port "postgres" {
      to = 5432
    }

    env {
      POSTGRES_USER     = "shop"
      POSTGRES_PASSWORD = var.POSTGRES_PASSWORD
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    volume "pgdata" {
      destination = "/var/lib/postgresql/data"
    }

    check "health" {
      type    = "exec"
      command = ["/bin/sh", "-c", "pg_isready -U shop"]
    }

    config {
      tmpfs = ["/run/postgresql"]
    }
  }

  task "cache" {
    image   = "redis:8"
    command = "redis-server"
    args    = ["--save", "", "--appendonly", "no"]

    port "redis" {
      to = 6379
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}
  }
}

# It runs to completion, so it is a job of its own.
job "django-shop-migrate" {
  type = "batch"

  task "migrate" {
    image   = "registry.example.org/shop/web:${var.TAG}"
    command = "python"
    args    = ["manage.py", "migrate", "--noinput"]

    # no other file is read; write the lines of .env into env, secrets as variables with sensitive = true
    env {
      DATABASE_URL           = "postgres://shop:${var.POSTGRES_PASSWORD}@db:5432/shop"
      REDIS_URL              = "redis://cache:6379/0"
      DJANGO_SETTINGS_MODULE = "shop.settings"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    restart {
      attempts = 0
      mode     = "fail"
    }
  }
}
