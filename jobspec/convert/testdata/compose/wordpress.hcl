# Converted from wordpress. Comments say what a person has to decide.

variable "DB_PASSWORD" {
  sensitive = true
}

variable "WP_TAG" {
  default = "6.8"
}

job "shop" {
  task "db" {
    image = "mysql:8.4"

    env {
      MYSQL_DATABASE             = "wordpress"
      MYSQL_USER                 = "wordpress"
      MYSQL_PASSWORD             = var.DB_PASSWORD
      MYSQL_RANDOM_ROOT_PASSWORD = "1"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    volume "db" {
      destination = "/var/lib/mysql"
    }
  }

  task "wordpress" {
    image = "wordpress:${var.WP_TAG}-apache"

    port "http" {
      static = 8080
      to     = 80
    }

    env {
      WORDPRESS_DB_HOST     = "db:3306"
      WORDPRESS_DB_USER     = "wordpress"
      WORDPRESS_DB_PASSWORD = var.DB_PASSWORD
      WORDPRESS_DB_NAME     = "wordpress"
    }

    # memory: 128 MiB, a limit, unless it is given here
    resources {}

    volume "wordpress" {
      destination = "/var/www/html"
    }

    depends_on "db" {
      condition = "running"
    }
  }
}
