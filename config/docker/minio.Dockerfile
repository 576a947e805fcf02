# MinIO from its Go module at a pinned version: upstream publishes no image of it. No file of the checkout is needed.
FROM golang:1.26 AS build
RUN CGO_ENABLED=0 go install -trimpath github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

FROM busybox:stable
COPY --from=build /go/bin/minio /usr/local/bin/minio
RUN adduser -D -u 10001 minio && mkdir /data && chown minio /data
USER minio
VOLUME /data
EXPOSE 9000 9001
ENTRYPOINT ["minio"]
CMD ["server", "/data", "--address", ":9000", "--console-address", ":9001"]
